// worker.mjs: a worker of bpttcheck, one file on Node's standard library; docs/protocol.md says what it speaks.
//
//     node worker.mjs
//
// It serves the Elman cell and the GRU that resets after the product, without or with a linear readout, for a cotangent
// or a squared error, in float64 and float32. Numbers of JavaScript are float64: a float32 problem is rounded where it
// is stored. To serve a kernel of your own, replace CELLS, and say in SUPPORTS what it does.
// Exit status: 0 at the end of the requests, 2 at a frame that is none.

import { pathToFileURL } from "node:url";

const SUPPORTS = {
  cells: ["elman", "gru_reset_after"],
  activations: ["tanh", "sigmoid", "relu", "identity"],
  readouts: ["none", "linear"],
  losses: ["cotangent", "squared_error"],
  reductions: ["sum", "mean", "tokens"],
  truncations: ["full", "window", "chunk", "periodic"],
  dtypes: ["float64", "float32"],
  lengths: true,
  final_cotangents: true,
  h0_none: true,
  deterministic: true,
};
const MOST = 2 ** 30; // bytes of a request, and of the arrays of an answer

class Malformed extends Error {} // a frame that is none: the worker ends
class Unsupported extends Error {} // a configuration that is not served

// ---- the cells: one row x (D,), h_prev (H,) at a time; matrices are in C order ---------------------------------------

const sigmoid = (a) => (a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a)));

// phi(a), and phi'(a) from h = phi(a)
const PHI = {
  tanh: [Math.tanh, (h) => 1 - h * h],
  sigmoid: [sigmoid, (h) => h * (1 - h)],
  relu: [(a) => (a > 0 ? a : 0), (h) => (h > 0 ? 1 : 0)],
  identity: [(a) => a, () => 1],
};

// out_j += sum_i v_i W_ij
function addProduct(out, v, W) {
  const m = out.length;
  for (let j = 0; j < m; j++) for (let i = 0; i < v.length; i++) out[j] += v[i] * W[i * m + j];
}

// out_i += sum_j W_ij v_j
function addTransposed(out, v, W) {
  const m = v.length;
  for (let i = 0; i < out.length; i++) for (let j = 0; j < m; j++) out[i] += W[i * m + j] * v[j];
}

// dW_ij += v_i delta_j
function addOuter(dW, v, delta) {
  const m = delta.length;
  for (let i = 0; i < v.length; i++) for (let j = 0; j < m; j++) dW[i * m + j] += v[i] * delta[j];
}

function add(out, v) {
  for (let j = 0; j < out.length; j++) out[j] += v[j];
}

// forward: h_t, and what backward needs of the step. backward: adds to the gradients d and to dx_t; returns dL/dh_prev.
const CELLS = {
  elman: {
    recurrent: "W_hh",
    shapes: (D, H) => ({ W_xh: [D, H], W_hh: [H, H], b_h: [H] }),

    // a = x W_xh + h_prev W_hh + b_h    h = phi(a)
    forward(w, activation, x, h_prev) {
      const a = w.b_h.slice();
      addProduct(a, x, w.W_xh);
      addProduct(a, h_prev, w.W_hh);
      return [a.map(PHI[activation][0]), null];
    },

    // delta = dh * phi'(a)
    backward(w, activation, x, h_prev, h, step, dh, d, dx) {
      const slope = PHI[activation][1];
      const delta = dh.map((v, j) => v * slope(h[j]));
      addOuter(d.W_xh, x, delta);
      addOuter(d.W_hh, h_prev, delta);
      add(d.b_h, delta);
      addTransposed(dx, delta, w.W_xh);
      const dh_prev = new h.constructor(h.length);
      addTransposed(dh_prev, delta, w.W_hh);
      return dh_prev;
    },
  },

  gru_reset_after: {
    recurrent: "W_h",
    shapes: (D, H) => ({ W_x: [D, 3 * H], W_h: [H, 3 * H], b_x: [3 * H], b_h: [3 * H] }),

    // u = x W_x + b_x, m = h_prev W_h + b_h: blocks r, z, n
    // r, z = sigmoid(u + m)    n = tanh(u_n + r m_n)    h = (1 - z) n + z h_prev
    forward(w, activation, x, h_prev) {
      const H = h_prev.length;
      const [u, m] = [w.b_x.slice(), w.b_h.slice()];
      addProduct(u, x, w.W_x);
      addProduct(m, h_prev, w.W_h);
      const r = h_prev.map((_, j) => sigmoid(u[j] + m[j]));
      const z = h_prev.map((_, j) => sigmoid(u[H + j] + m[H + j]));
      const n = h_prev.map((_, j) => Math.tanh(u[2 * H + j] + r[j] * m[2 * H + j]));
      return [h_prev.map((v, j) => (1 - z[j]) * n[j] + z[j] * v), { r, z, n, m_n: m.subarray(2 * H) }];
    },

    // delta_n = dh (1 - z) (1 - n^2)    delta_z = dh (h_prev - n) z (1 - z)    delta_r = delta_n m_n r (1 - r)
    backward(w, activation, x, h_prev, h, { r, z, n, m_n }, dh, d, dx) {
      const H = h.length;
      const [delta_x, delta_h] = [new h.constructor(3 * H), new h.constructor(3 * H)];
      for (let j = 0; j < H; j++) {
        const delta_n = dh[j] * (1 - z[j]) * (1 - n[j] * n[j]);
        delta_x[j] = delta_h[j] = delta_n * m_n[j] * r[j] * (1 - r[j]);
        delta_x[H + j] = delta_h[H + j] = dh[j] * (h_prev[j] - n[j]) * z[j] * (1 - z[j]);
        delta_x[2 * H + j] = delta_n;
        delta_h[2 * H + j] = delta_n * r[j];
      }
      addOuter(d.W_x, x, delta_x);
      addOuter(d.W_h, h_prev, delta_h);
      add(d.b_x, delta_x);
      add(d.b_h, delta_h);
      addTransposed(dx, delta_x, w.W_x);
      const dh_prev = dh.map((v, j) => v * z[j]);
      addTransposed(dh_prev, delta_h, w.W_h);
      return dh_prev;
    },
  },
};

// ---- the gradient ----------------------------------------------------------------------------------------------------

// Truncation cuts a row's losses into blocks; those of a block, first < t <= end, go back to the steps s > bottom.
function cut({ kind, k, k1, k2 }, T) {
  const size = (n) => {
    if (!Number.isSafeInteger(n) || n < 1) throw new Error("truncation: got no number of steps");
    return n;
  };
  if (kind === "full") return { block: T, bottom: (first) => first };
  if (kind === "window") return { block: 1, bottom: (first, end) => Math.max(0, end - size(k)) };
  if (kind === "chunk") return { block: size(k), bottom: (first) => first };
  if (kind === "periodic") return { block: size(k1), bottom: (first, end) => Math.max(0, end - size(k2)) };
  throw new Unsupported(`truncation ${kind}`);
}

// What the losses of each row are divided by: n (B,), 0 where there is none.
function divisors({ time_reduction: time, batch_reduction: batch }, lengths) {
  const total = lengths.reduce((sum, n) => sum + n, 0);
  if (time === "tokens" && batch === "tokens") return lengths.map(() => total);
  if (![time, batch].every((name) => name === "sum" || name === "mean")) throw new Unsupported("its reductions");
  return lengths.map((length) => (time === "mean" ? length : 1) * (batch === "mean" ? lengths.length : 1));
}

// The answer to a problem: name -> [shape, entries]. Shapes: x (T,B,D), h (T,B,H), o (T,B,K).
function gradients(problem, arrays) {
  const { cell, activation, readout, loss, truncation } = problem;
  if (!Object.hasOwn(CELLS, cell)) throw new Unsupported(`cell ${cell}`);
  if (cell === "elman" && !Object.hasOwn(PHI, activation)) throw new Unsupported(`activation ${activation}`);
  if (!["none", "linear"].includes(readout)) throw new Unsupported(`readout ${readout}`);
  if (!["cotangent", "squared_error"].includes(loss.kind)) throw new Unsupported(`loss ${loss.kind}`);
  const Real = { float64: Float64Array, float32: Float32Array }[problem.dtype];
  if (!Real) throw new Unsupported(`dtype ${problem.dtype}`);
  const spec = CELLS[cell], linear = readout === "linear", squared = loss.kind === "squared_error";
  const scale = squared ? Number(loss.scale) : 0;

  // An array of the request, its shape checked; null where an optional one is absent.
  const given = (name, shape, Type = Real, optional = false) => {
    const array = arrays.get(name);
    if (!array && optional) return null;
    if (!array || !(array.entries instanceof Type)) throw new Error(`${name}: is not there, or of another dtype`);
    if (shape && String(array.shape) !== String(shape)) throw new Error(`${name}: got shape ${array.shape}, want ${shape}`);
    return shape ? array.entries : array.shape;
  };
  const [T, B, D, ...more] = given("x"), [H] = given(`params.${spec.recurrent}`);
  const K = linear ? given("params.W_hy")[1] : H;
  if (more.length || ![T, B, D, H, K].every((n) => n >= 1)) throw new Error("x: got no sizes from 1");
  const shapes = { ...spec.shapes(D, H), ...(linear ? { W_hy: [H, K], b_y: [K] } : {}) };
  const entries = T * B * (D + H + K) + B * H + H * (3 * D + 3 * H + K + 7) + K;
  if (!(entries * Real.BYTES_PER_ELEMENT <= MOST)) throw new Error("the answer would be too large");

  const w = {}, d = {};
  for (const [name, shape] of Object.entries(shapes)) {
    w[name] = given(`params.${name}`, shape);
    d[name] = new Real(w[name].length);
  }
  const x = given("x", [T, B, D]), h0 = given("h0", [B, H], Real, true) ?? new Real(B * H);
  const lengths = Array.from(given("lengths", [B], BigInt64Array, true) ?? new Array(B).fill(T), Number);
  if (!lengths.every((n) => n >= 0 && n <= T)) throw new Error("lengths: not from 0 to T");
  const g = squared ? null : given("loss.g", [T, B, K]);
  const g_h_final = squared ? null : given("loss.g_h_final", [B, H], Real, true);
  const target = squared ? given("loss.target", [T, B, K]) : null;
  const n = divisors(loss, lengths), { block, bottom } = cut(truncation, T);

  const h = new Real(T * B * H), o = new Real(T * B * K), dx = new Real(T * B * D), dh0 = new Real(B * H);
  const row = (array, t, b, size) => array.subarray((t * B + b) * size, (t * B + b + 1) * size); // of step t + 1
  const before = (t, b) => (t ? row(h, t - 1, b, H) : h0.subarray(b * H, (b + 1) * H));
  let total = 0;
  for (let b = 0; b < B; b++) {
    const length = lengths[b], steps = [];
    for (let t = 0; t < T; t++) {
      const o_t = row(o, t, b, K);
      const [now, step] = t < length ? spec.forward(w, activation, row(x, t, b, D), before(t, b)) : [before(t, b), null];
      row(h, t, b, H).set(now);
      steps.push(step);
      o_t.set(linear ? w.b_y : now);
      if (linear) addProduct(o_t, now, w.W_hy);
    }
    let sum = 0;
    for (let first = 0; first < length; first += block) {
      const end = Math.min(first + block, length), low = bottom(first, end);
      let carry = new Real(H);
      if (g_h_final && end === length) carry.set(row(g_h_final, 0, b, H));
      for (let t = end - 1; t >= low; t--) {
        const h_t = row(h, t, b, H), o_t = row(o, t, b, K);
        if (t >= first) {
          const y = squared ? row(target, t, b, K) : row(g, t, b, K);
          const d_o = o_t.map((v, k) => (squared ? (2 * scale * (v - y[k])) / n[b] : y[k]));
          for (let k = 0; k < K; k++) sum += squared ? scale * (o_t[k] - y[k]) ** 2 : y[k] * o_t[k];
          if (linear) {
            addOuter(d.W_hy, h_t, d_o);
            add(d.b_y, d_o);
            addTransposed(carry, d_o, w.W_hy);
          } else add(carry, d_o);
        }
        carry = spec.backward(w, activation, row(x, t, b, D), before(t, b), h_t, steps[t], carry, d, row(dx, t, b, D));
      }
      if (low === 0) add(dh0.subarray(b * H, (b + 1) * H), carry);
    }
    total += sum / (n[b] || 1);
    if (g_h_final) {
      const last = before(T, b), final = row(g_h_final, 0, b, H);
      for (let j = 0; j < H; j++) total += final[j] * last[j];
      if (length === 0) dh0.set(final, b * H);
    }
  }
  const found = { loss: [[], Real.of(total)], h: [[T, B, H], h], o: [[T, B, K], o] };
  for (const [name, shape] of Object.entries(shapes)) found[`d${name}`] = [shape, d[name]];
  return { ...found, dx: [[T, B, D], dx], dh0: [[B, H], dh0] };
}

// ---- frames: a length, a header of JSON, and the arrays' bytes -------------------------------------------------------

const TYPES = { F64: Float64Array, F32: Float32Array, F16: Uint16Array, I64: BigInt64Array };
const isSize = (n) => Number.isSafeInteger(n) && n >= 0 && n <= MOST;

// A frame's body -> its message, and name -> {shape, entries}.
function decode(body) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const size = body.length < 8 ? Infinity : Number(body.readBigUInt64LE(0));
  if (size > body.length - 8) throw new Malformed("its header is longer than the frame");
  let header, said, message = null;
  try {
    header = JSON.parse(text.decode(body.subarray(8, 8 + size)));
    said = header.__metadata__.bpttcheck;
    if (typeof said === "string") message = JSON.parse(said);
  } catch (error) {
    throw new Malformed(`it has no message (${error.message})`);
  }
  if (message === null || typeof message !== "object" || Array.isArray(message)) throw new Malformed("it has no message");
  const data = body.subarray(8 + size), arrays = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") arrays.set(name, readArray(name, entry, data));
  }
  return { message, arrays };
}

function readArray(name, entry, data) {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  const Type = typeof dtype === "string" && Object.hasOwn(TYPES, dtype) ? TYPES[dtype] : null;
  const right = Type && [shape, offsets].every((list) => Array.isArray(list) && list.length <= 8 && list.every(isSize));
  const count = right ? shape.reduce((product, n) => product * n, 1) : 0;
  const [begin, end] = right && offsets.length === 2 ? offsets : [1, 0];
  if (!(begin <= end && end <= data.length && end - begin === count * Type.BYTES_PER_ELEMENT)) {
    throw new Malformed("an array does not fill its place");
  }
  const place = data.byteOffset + begin; // copied, since it may not be aligned there
  return { shape, entries: new Type(data.buffer.slice(place, place + (end - begin))) };
}

function encode(message, found) {
  const header = { __metadata__: { bpttcheck: JSON.stringify(message) } }, parts = [];
  let offset = 0;
  for (const [name, [shape, entries]] of Object.entries(found)) {
    const dtype = entries instanceof Float64Array ? "F64" : "F32";
    header[name] = { dtype, shape, data_offsets: [offset, (offset += entries.byteLength)] };
    parts.push(Buffer.from(entries.buffer, entries.byteOffset, entries.byteLength));
  }
  const text = Buffer.from(JSON.stringify(header)), lengths = Buffer.alloc(16);
  lengths.writeBigUInt64LE(BigInt(8 + text.length + offset), 0);
  lengths.writeBigUInt64LE(BigInt(text.length), 8);
  return Buffer.concat([lengths, text, ...parts]);
}

// ---- serving ---------------------------------------------------------------------------------------------------------

function answer({ message, arrays }) {
  const { type, seq = null } = message;
  if (type === "start") return encode({ type: "started", seq, version: 1, supports: SUPPORTS }, {});
  if (type === "release") return encode({ type: "released", seq }, {});
  try {
    if (type !== "gradients") throw new Error("a request of another type than start, gradients, release or stop");
    return encode({ type: "answer", seq }, gradients(message.problem, arrays));
  } catch (error) {
    const kind = error instanceof Unsupported ? "unsupported" : "error";
    return encode({ type: kind, seq, reason: String(error.message).slice(0, 300) }, {});
  }
}

// The bodies of the frames in a stream of buffers.
async function* frames(stream) {
  let parts = [], have = 0, need = 8;
  for await (const part of stream) {
    parts.push(part);
    have += part.length;
    while (have >= need) {
      const whole = parts.length === 1 ? parts[0] : Buffer.concat(parts);
      parts = [whole];
      const size = Number(whole.readBigUInt64LE(0));
      if (size > MOST) throw new Malformed(`it is longer than ${MOST} bytes`);
      need = 8 + size;
      if (have < need) break;
      yield whole.subarray(8, need);
      parts = [whole.subarray(need)];
      have -= need;
      need = 8;
    }
  }
  if (have) throw new Malformed("it ends before its length says");
}

// Answers requests until stop or the end of the stream: the exit status.
export async function serve(requests, write) {
  try {
    for await (const body of frames(requests)) {
      const frame = decode(body);
      if (frame.message.type === "stop") return 0;
      await write(answer(frame));
    }
    return 0;
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    process.stderr.write(`worker: a frame that cannot be read: ${error.message}\n`);
    return 2;
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const write = (bytes) => new Promise((resolve) => process.stdout.write(bytes, resolve));
  process.exitCode = await serve(process.stdin, write);
}
