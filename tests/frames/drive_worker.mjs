// drive_worker.mjs: serves streams from a file, each as if it were a process's standard input.
//
//     node drive_worker.mjs WORKER STREAMS ANSWERS     STREAMS: for each stream its length, 8 bytes, and its bytes
//
// Writes what is answered to ANSWERS, and prints how many streams ended with status 0 and with status 2, and the most
// memory that was resident, in KiB.

import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [worker, streams, answers] = process.argv.slice(2);
const { serve } = await import(pathToFileURL(worker).href);
const bytes = readFileSync(streams), out = openSync(answers, "w"), ended = { 0: 0, 2: 0 };
process.stderr.write = () => true;
for (let at = 0; at < bytes.length; ) {
  const size = Number(bytes.readBigUInt64LE(at)), stream = bytes.subarray(at + 8, at + 8 + size);
  at += 8 + size;
  const middle = size >> 1; // a stream comes in pieces
  ended[await serve([stream.subarray(0, middle), stream.subarray(middle)], (answer) => writeSync(out, answer))]++;
}
closeSync(out);
console.log(ended[0], ended[2], process.resourceUsage().maxRSS);
