// consume.mjs: an Elman network in JavaScript, judged by bpttcheck's test vectors; one file on Node's standard library.
//
//     bpttcheck vectors export --out vectors
//     node consume.mjs vectors [answers.json]
//
// It answers every vector of the cell elman with a cotangent or a squared error, in float64 and float32, says which
// entries are out of their budget, and writes its answers for `bpttcheck vectors verify answers.json --vectors vectors
// --select 'elman-*-cotangent-*,...'`. Exit status: 0 all within budget, 1 some entry is not, 2 no corpus. To judge
// code of your own, replace `gradients`. docs/vectors.md has the formats.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// ---- reading: safetensors is a length, a header of JSON, and the arrays' bytes ---------------------------------------

const TYPES = { F64: Float64Array, F32: Float32Array, I64: BigInt64Array, U64: BigUint64Array, I32: Int32Array, I8: Int8Array };

function readArrays(path) {
  const bytes = readFileSync(path);
  const size = Number(bytes.readBigUInt64LE(0));
  if (!(size <= bytes.length - 8)) throw new Error(`${path}: its header is longer than the file`);
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + size));
  const arrays = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = entry.data_offsets.map((at) => 8 + size + at);
    const Type = TYPES[entry.dtype];
    const count = entry.shape.reduce((product, n) => product * n, 1);
    if (!Type || !(end <= bytes.length) || end - begin !== count * Type.BYTES_PER_ELEMENT) throw new Error(`${path}: ${name}`);
    arrays[name] = new Type(bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end));
  }
  return arrays;
}

// ---- what is judged: arrays are flat, in C order; x (T,B,D), h (T,B,H), o (T,B,K) -------------------------------------
//
//     h_t = phi(x_t W_xh + h_{t-1} W_hh + b_h)     o_t = h_t W_hy + b_y, or h_t                     while t <= length
//     delta_t = (carry + dL_t/dh_t) phi'(a_t)      carry = delta_{t+1} W_hh^T, g_h_final at first
//     dW_xh += x_t^T delta_t    dW_hh += h_{t-1}^T delta_t    db_h += delta_t    dx_t += delta_t W_xh^T

const PHI = {
  // phi(a), and phi'(a) from h = phi(a)
  tanh: [Math.tanh, (h) => 1 - h * h],
  sigmoid: [(a) => (a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a))), (h) => h * (1 - h)],
  relu: [(a) => Math.max(a, 0), (h) => (h > 0 ? 1 : 0)],
  identity: [(a) => a, () => 1],
};

function gradients(vector, arrays, Real) {
  const { T, B, D, H, K } = vector.sizes;
  const linear = vector.readout === "linear", squared = vector.loss.kind === "squared_error";
  const [phi, slope] = PHI[vector.activation];
  const real = (name, size) => Real.from(arrays[name] ?? new Float64Array(size));
  const W_xh = real("params.W_xh"), W_hh = real("params.W_hh"), b_h = real("params.b_h");
  const W_hy = real("params.W_hy", 0), b_y = real("params.b_y", 0);
  const x = real("x"), h0 = real("h0", B * H), g = real("loss.g", 0), y = real("loss.target", 0);
  const g_h_final = real("loss.g_h_final", B * H);
  const lengths = arrays.lengths ? Array.from(arrays.lengths, Number) : new Array(B).fill(T);
  const total = lengths.reduce((sum, n) => sum + n, 0);

  // The losses of a block of steps, first < t <= end, go back to the steps s > low.
  const { kind, k, k1, k2 } = vector.truncation;
  const block = { full: T, window: 1, chunk: k, periodic: k1 }[kind], reach = kind === "window" ? k : k2;
  const lowest = (first, end) => (kind === "full" || kind === "chunk" ? first : Math.max(0, end - reach));

  const d = { loss: new Real(1), h: new Real(T * B * H), o: new Real(T * B * K), dW_xh: new Real(D * H), dW_hh: new Real(H * H),
    db_h: new Real(H), dx: new Real(T * B * D), dh0: new Real(B * H) };
  if (linear) Object.assign(d, { dW_hy: new Real(H * K), db_y: new Real(K) });
  const at = (array, t, b, n) => array.subarray((t * B + b) * n, (t * B + b + 1) * n); // step t + 1 of row b
  for (let b = 0; b < B; b++) {
    const before = (t) => (t ? at(d.h, t - 1, b, H) : at(h0, 0, b, H));
    for (let t = 0; t < T; t++) {
      const h = at(d.h, t, b, H), o = at(d.o, t, b, K), x_t = at(x, t, b, D), h_prev = before(t);
      if (t >= lengths[b]) h.set(h_prev);
      else for (let j = 0; j < H; j++) {
        let a = b_h[j];
        for (let i = 0; i < D; i++) a += x_t[i] * W_xh[i * H + j];
        for (let i = 0; i < H; i++) a += h_prev[i] * W_hh[i * H + j];
        h[j] = phi(a);
      }
      for (let n = 0; n < K; n++) {
        let sum = linear ? b_y[n] : h[n];
        if (linear) for (let j = 0; j < H; j++) sum += h[j] * W_hy[j * K + n];
        o[n] = sum;
      }
    }
    const { time_reduction: time, batch_reduction: batch } = vector.loss;
    const divisor = time === "tokens" ? total : (time === "mean" ? lengths[b] : 1) * (batch === "mean" ? B : 1);
    let loss = 0;
    for (let first = 0; first < lengths[b]; first += block) {
      const end = Math.min(first + block, lengths[b]), low = lowest(first, end);
      let carry = new Real(H);
      if (end === lengths[b]) carry.set(at(g_h_final, 0, b, H));
      for (let t = end - 1; t >= low; t--) {
        const h = at(d.h, t, b, H), o = at(d.o, t, b, K), x_t = at(x, t, b, D), dx_t = at(d.dx, t, b, D), h_prev = before(t);
        if (t >= first) {
          const y_t = squared ? at(y, t, b, K) : null, g_t = squared ? null : at(g, t, b, K);
          for (let n = 0; n < K; n++) {
            const r = squared ? o[n] - y_t[n] : 0;
            const d_o = squared ? (2 * vector.loss.scale * r) / divisor : g_t[n];
            loss += squared ? vector.loss.scale * r * r : g_t[n] * o[n];
            if (!linear) carry[n] += d_o;
            else {
              d.db_y[n] += d_o;
              for (let j = 0; j < H; j++) d.dW_hy[j * K + n] += h[j] * d_o;
              for (let j = 0; j < H; j++) carry[j] += d_o * W_hy[j * K + n];
            }
          }
        }
        const delta = carry.map((dh, j) => dh * slope(h[j]));
        carry = new Real(H);
        for (let j = 0; j < H; j++) {
          d.db_h[j] += delta[j];
          for (let i = 0; i < D; i++) d.dW_xh[i * H + j] += x_t[i] * delta[j];
          for (let i = 0; i < D; i++) dx_t[i] += W_xh[i * H + j] * delta[j];
          for (let i = 0; i < H; i++) d.dW_hh[i * H + j] += h_prev[i] * delta[j];
          for (let i = 0; i < H; i++) carry[i] += W_hh[i * H + j] * delta[j];
        }
      }
      if (low === 0) at(d.dh0, 0, b, H).forEach((_, j, row) => (row[j] += carry[j]));
    }
    d.loss[0] += loss / (divisor || 1);
    for (let j = 0; j < H; j++) {
      d.loss[0] += g_h_final[b * H + j] * before(T)[j];
      if (lengths[b] === 0) d.dh0[b * H + j] = g_h_final[b * H + j];
    }
  }
  return d;
}

// ---- judging: |(got - near) - rest| <= budget, written so that NaN is wrong; an infinite budget judges nothing -------

function main(folder, answersFile) {
  const index = JSON.parse(readFileSync(join(folder, "index.json"), "utf8"));
  if (index.format !== "bpttcheck-vectors" || index.schema_version !== 1) throw new Error("index.json: another format");
  const answers = {}, count = { vectors: 0, arrays: 0, wrong: 0 };
  let worst = [0, "nothing"];
  for (const vector of index.vectors) {
    if (vector.cell !== "elman" || vector.loss.kind === "cross_entropy") continue;
    const problem = readArrays(join(folder, vector.problem.file)), result = readArrays(join(folder, vector.result.file));
    count.vectors++;
    for (const [dtype, Real] of Object.entries({ float64: Float64Array, float32: Float32Array })) {
      if (!vector.dtypes.includes(dtype)) continue;
      const got = gradients(vector, problem, Real);
      ((answers[vector.id] ??= {})[dtype] = {});
      for (const key of Object.keys(vector.arrays)) {
        const near = result[`${key}.near`], rest = result[`${key}.rest`], budget = result[`${key}.budget.${dtype}`];
        const off = near.findIndex((_, i) => {
          const error = Math.abs(got[key][i] - near[i] - rest[i]), right = error <= budget[i];
          if (error && error / budget[i] > worst[0] && right) worst = [error / budget[i], `${key}[${i}] of ${vector.id} in ${dtype}`];
          return !(right || budget[i] === Infinity);
        });
        if (off >= 0) console.log(`wrong: ${vector.id} ${dtype} ${key}[${off}]: got ${got[key][off]}, want ${near[off]}, budget ${budget[off]}`);
        count.wrong += off >= 0;
        count.arrays++;
        answers[vector.id][dtype][key] = Array.from(got[key]); // JSON writes NaN and infinities as null: NaN to verify
      }
    }
  }
  console.log(`${count.vectors} vectors, ${count.arrays} arrays, ${count.wrong} wrong; largest error within: ${worst[0].toFixed(3)} of the budget, ${worst[1]}`);
  if (answersFile) writeFileSync(answersFile, JSON.stringify({ format: "bpttcheck-answers", version: 1, answers }));
  return count.wrong ? 1 : 0;
}

try {
  if (process.argv.length < 3) throw new Error("usage: node consume.mjs VECTORS [ANSWERS]");
  process.exitCode = main(process.argv[2], process.argv[3]);
} catch (error) {
  console.error(`consume: ${error.message}`);
  process.exitCode = 2;
}
