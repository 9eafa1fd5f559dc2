"""The subjects: code that computes BPTT gradients fast, one implementation a file."""
