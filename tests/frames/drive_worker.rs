// drive_worker.rs: serves streams from a file, each as if it were a process's standard input.
//
//     drive_worker STREAMS ANSWERS        STREAMS: for each stream its length, 8 bytes, and its bytes
//
// Writes what is answered to ANSWERS, and prints how many streams ended with status 0 and with status 2.
#![allow(dead_code)] // the worker's own main

#[path = "../../examples/worker.rs"]
mod worker;

use std::fs::{read, File};
use std::io::BufWriter;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let bytes = read(&words[1]).expect("the streams can be read");
    let mut answers = BufWriter::new(File::create(&words[2]).expect("the answers can be written"));
    let (mut at, mut ended) = (0, [0, 0, 0]);
    while at < bytes.len() {
        let head: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
        let end = at + 8 + u64::from_le_bytes(head) as usize;
        let mut stream = &bytes[at + 8..end];
        ended[worker::serve(&mut stream, &mut answers) as usize] += 1;
        at = end;
    }
    assert_eq!(ended[1], 0);
    println!("{} {}", ended[0], ended[2]);
}
