"""Test vectors: problems and their exact results in files that any language reads, and the judge of others' answers.

selection  which vectors there are: data           recipe   from a vector's name to its problem, by integers alone
flags      what bug a vector is for                results  exact values, roundings and budgets of one problem
export     writes the corpus                       corpus   reads one, as hostile input
lint       what a corpus must be                   answers  reads answers, as hostile input; verify judges them
"""
