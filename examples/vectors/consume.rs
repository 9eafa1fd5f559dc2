// consume.rs: an Elman network in Rust, judged by bpttcheck's test vectors; one file on the standard library.
//
//     bpttcheck vectors export --out vectors
//     rustc --edition 2021 -O consume.rs && ./consume vectors [answers.json]
//
// It answers every vector of the cell elman with a cotangent or a squared error, in float64 and float32, says which
// entries are out of their budget, and writes its answers for `bpttcheck vectors verify`. It rounds the exact mantissas
// and exponents itself, and says where that is not what the corpus has in `near`. Exit status: 0 all within budget,
// 1 some entry is not, 2 no corpus. To judge code of your own, replace `elman!`. docs/vectors.md has the formats.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::{env, fs, process};

type Res<T> = Result<T, String>;

// ---- JSON: RFC 8259, with escapes as they stand (the corpus has none in what is read here) ---------------------------

enum Json {
    Word, // null, true, false
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn ahead(&mut self) -> u8 {
        while self.at < self.bytes.len() && self.bytes[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        *self.bytes.get(self.at).unwrap_or(&0)
    }

    fn eat(&mut self, c: u8) -> Res<()> {
        if self.ahead() != c {
            return Err(format!("JSON: expected {:?} at byte {}", c as char, self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn text(&mut self) -> Res<String> {
        self.eat(b'"')?;
        let start = self.at;
        while *self.bytes.get(self.at).ok_or("JSON: ends within a text")? != b'"' {
            self.at += 1 + usize::from(self.bytes[self.at] == b'\\');
        }
        self.at += 1;
        String::from_utf8(self.bytes[start..self.at - 1].to_vec()).map_err(|e| e.to_string())
    }

    fn value(&mut self, depth: u32) -> Res<Json> {
        if depth > 32 {
            return Err("JSON: nested too deeply".into());
        }
        match self.ahead() {
            b'{' => {
                let mut found = BTreeMap::new();
                self.at += 1;
                while self.ahead() != b'}' {
                    if !found.is_empty() {
                        self.eat(b',')?;
                    }
                    let name = self.text()?;
                    self.eat(b':')?;
                    found.insert(name, self.value(depth + 1)?);
                }
                self.at += 1;
                Ok(Json::Object(found))
            }
            b'[' => {
                let mut found = Vec::new();
                self.at += 1;
                while self.ahead() != b']' {
                    if !found.is_empty() {
                        self.eat(b',')?;
                    }
                    found.push(self.value(depth + 1)?);
                }
                self.at += 1;
                Ok(Json::List(found))
            }
            b'"' => Ok(Json::Text(self.text()?)),
            _ => {
                let start = self.at;
                while self.at < self.bytes.len() && !b",]} \n\r\t".contains(&self.bytes[self.at]) {
                    self.at += 1;
                }
                match std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or("") {
                    "null" | "true" | "false" => Ok(Json::Word),
                    word => word.parse().map(Json::Number).map_err(|_| format!("JSON: at byte {start}")),
                }
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Res<Json> {
    Parser { bytes, at: 0 }.value(0)
}

impl Json {
    fn get(&self, name: &str) -> Res<&Json> {
        match self {
            Json::Object(found) => found.get(name).ok_or(format!("{name}: is not there")),
            _ => Err(format!("{name}: is in no object")),
        }
    }

    fn text(&self) -> &str {
        if let Json::Text(text) = self { text } else { "" }
    }

    fn size(&self) -> usize {
        if let Json::Number(n) = self { *n as usize } else { 0 } // the cast saturates
    }

    fn list(&self) -> &[Json] {
        if let Json::List(found) = self { found } else { &[] }
    }
}

// ---- safetensors: a length, a header of JSON, and the arrays' bytes --------------------------------------------------

struct Arrays(HashMap<String, (String, Vec<u8>)>); // name to dtype and bytes

impl Arrays {
    fn read(path: &str) -> Res<Arrays> {
        let bytes = fs::read(path).map_err(|e| format!("{path}: {e}"))?;
        let head: [u8; 8] = bytes.get(..8).and_then(|b| b.try_into().ok()).ok_or(format!("{path}: too short"))?;
        let size = usize::try_from(u64::from_le_bytes(head)).unwrap_or(usize::MAX);
        let start = size.checked_add(8).filter(|&s| s <= bytes.len()).ok_or(format!("{path}: its header is too long"))?;
        let mut found = HashMap::new();
        if let Json::Object(entries) = parse(&bytes[8..start])? {
            for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
                let offsets = entry.get("data_offsets")?.list();
                let [begin, end] = offsets else { return Err(format!("{path}: {name}")) };
                let place = begin.size()..end.size();
                let data = bytes[start..].get(place).ok_or(format!("{path}: {name} is not within the file"))?;
                found.insert(name, (entry.get("dtype")?.text().to_string(), data.to_vec()));
            }
        }
        Ok(Arrays(found))
    }

    fn words<const N: usize>(&self, name: &str, dtype: &str) -> Res<Vec<[u8; N]>> {
        let (kind, bytes) = self.0.get(name).ok_or(format!("{name}: is not there"))?;
        if kind != dtype {
            return Err(format!("{name}: is {kind}, expected {dtype}"));
        }
        Ok(bytes.chunks_exact(N).map(|word| word.try_into().unwrap()).collect())
    }

    fn floats(&self, name: &str) -> Res<Vec<f64>> {
        match self.0.get(name).map(|(dtype, _)| dtype.as_str()) {
            Some("F32") => Ok(self.words(name, "F32")?.into_iter().map(|w| f64::from(f32::from_le_bytes(w))).collect()),
            _ => Ok(self.words(name, "F64")?.into_iter().map(f64::from_le_bytes).collect()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

// ---- what is judged: arrays are flat, in C order; x (T,B,D), h (T,B,H), o (T,B,K) ------------------------------------
//
//     h_t = phi(x_t W_xh + h_{t-1} W_hh + b_h)     o_t = h_t W_hy + b_y, or h_t                     while t <= length
//     delta_t = (carry + dL_t/dh_t) phi'(a_t)      carry = delta_{t+1} W_hh^T, g_h_final at first
//     dW_xh += x_t^T delta_t    dW_hh += h_{t-1}^T delta_t    db_h += delta_t    dx_t += delta_t W_xh^T

macro_rules! elman {
    ($name:ident, $real:ty) => {
        #[allow(clippy::too_many_lines)]
        fn $name(vector: &Json, arrays: &Arrays) -> Res<BTreeMap<&'static str, Vec<f64>>> {
            let sizes = vector.get("sizes")?;
            let mut axes = [0; 5];
            for (axis, name) in axes.iter_mut().zip(["T", "B", "D", "H", "K"]) {
                *axis = sizes.get(name)?.size();
            }
            let [t_max, rows, d_in, hidden, outs] = axes;
            let given = |name: &str, size: usize| -> Res<Vec<$real>> {
                let array = if arrays.has(name) { arrays.floats(name)? } else { vec![0.0; size] };
                if array.len() != size {
                    return Err(format!("{name}: got {} entries, want {size}", array.len()));
                }
                Ok(array.into_iter().map(|v| v as $real).collect()) // exact: the dtype holds every input
            };
            let linear = vector.get("readout")?.text() == "linear";
            let loss = vector.get("loss")?;
            let squared = loss.get("kind")?.text() == "squared_error";
            let scale = if let Json::Number(n) = loss.get("scale")? { *n as $real } else { 0.0 };
            let activation = vector.get("activation")?.text().to_string();
            let (phi, slope): (fn($real) -> $real, fn($real) -> $real) = match activation.as_str() {
                "tanh" => (|a| a.tanh(), |h| 1.0 - h * h),
                "sigmoid" => (|a| if a < 0.0 { a.exp() / (1.0 + a.exp()) } else { 1.0 / (1.0 + (-a).exp()) }, |h| h * (1.0 - h)),
                "relu" => (|a| a.max(0.0), |h| if h > 0.0 { 1.0 } else { 0.0 }),
                _ => (|a| a, |_| 1.0),
            };
            let (w_xh, w_hh) = (given("params.W_xh", d_in * hidden)?, given("params.W_hh", hidden * hidden)?);
            let b_h = given("params.b_h", hidden)?;
            let (w_hy, b_y) = (given("params.W_hy", hidden * outs)?, given("params.b_y", outs)?);
            let (x, h0) = (given("x", t_max * rows * d_in)?, given("h0", rows * hidden)?);
            let y = given(if squared { "loss.target" } else { "loss.g" }, t_max * rows * outs)?;
            let last = given("loss.g_h_final", rows * hidden)?;
            let lengths: Vec<usize> = if arrays.has("lengths") {
                arrays.words("lengths", "I64")?.into_iter().map(|w| (i64::from_le_bytes(w).max(0) as usize).min(t_max)).collect()
            } else {
                vec![t_max; rows]
            };
            if lengths.len() != rows {
                return Err("lengths: not one a row".into());
            }

            // The losses of a block of steps, first < t <= end, go back to the steps s > low.
            let cut = vector.get("truncation")?;
            let kind = cut.get("kind")?.text();
            let (block, reach) = match kind {
                "window" => (1, cut.get("k")?.size()),
                "chunk" => (cut.get("k")?.size(), 0),
                "periodic" => (cut.get("k1")?.size(), cut.get("k2")?.size()),
                _ => (t_max, 0),
            };
            let within = kind == "full" || kind == "chunk";

            let (mut h, mut o) = (vec![0.0; t_max * rows * hidden], vec![0.0; t_max * rows * outs]);
            let (mut d_w_xh, mut d_w_hh, mut d_b_h) = (vec![0.0; w_xh.len()], vec![0.0; w_hh.len()], vec![0.0; hidden]);
            let (mut d_x, mut d_h0) = (vec![0.0; x.len()], vec![0.0; h0.len()]);
            let (mut d_w_hy, mut d_b_y): (Vec<$real>, Vec<$real>) = (vec![0.0; w_hy.len()], vec![0.0; outs]);
            let mut total: $real = 0.0;
            for b in 0..rows {
                let row = |t: usize, n: usize| (t * rows + b) * n..(t * rows + b + 1) * n; // step t + 1 of row b
                let before = |h: &[$real], t: usize| -> Vec<$real> {
                    if t == 0 { h0[row(0, hidden)].to_vec() } else { h[row(t - 1, hidden)].to_vec() }
                };
                for t in 0..t_max {
                    let h_prev = before(&h, t);
                    for j in 0..hidden {
                        let mut a = b_h[j];
                        for i in 0..d_in {
                            a += x[row(t, d_in)][i] * w_xh[i * hidden + j];
                        }
                        for i in 0..hidden {
                            a += h_prev[i] * w_hh[i * hidden + j];
                        }
                        h[row(t, hidden)][j] = if t < lengths[b] { phi(a) } else { h_prev[j] };
                    }
                    for n in 0..outs {
                        let mut sum = if linear { b_y[n] } else { h[row(t, hidden)][n] };
                        for j in 0..if linear { hidden } else { 0 } {
                            sum += h[row(t, hidden)][j] * w_hy[j * outs + n];
                        }
                        o[row(t, outs)][n] = sum;
                    }
                }
                let (time, batch) = (loss.get("time_reduction")?.text(), loss.get("batch_reduction")?.text());
                let mean = if time == "mean" { lengths[b] } else { 1 } * if batch == "mean" { rows } else { 1 };
                let divisor = if time == "tokens" { lengths.iter().sum() } else { mean }.max(1) as $real;
                let mut sum: $real = 0.0;
                let mut first = 0;
                while first < lengths[b] {
                    let end = (first + block).min(lengths[b]);
                    let low = if within { first } else { end.saturating_sub(reach) };
                    let mut carry = if end == lengths[b] { last[row(0, hidden)].to_vec() } else { vec![0.0; hidden] };
                    for t in (low..end).rev() {
                        let (h_t, h_prev) = (h[row(t, hidden)].to_vec(), before(&h, t));
                        for n in 0..if t >= first { outs } else { 0 } {
                            let (o_n, y_n) = (o[row(t, outs)][n], y[row(t, outs)][n]);
                            let r = o_n - y_n;
                            let d_o = if squared { 2.0 * scale * r / divisor } else { y_n };
                            sum += if squared { scale * r * r } else { y_n * o_n };
                            if !linear {
                                carry[n] += d_o;
                                continue;
                            }
                            d_b_y[n] += d_o;
                            for j in 0..hidden {
                                d_w_hy[j * outs + n] += h_t[j] * d_o;
                                carry[j] += d_o * w_hy[j * outs + n];
                            }
                        }
                        let delta: Vec<$real> = carry.iter().zip(&h_t).map(|(dh, &h)| dh * slope(h)).collect();
                        carry = vec![0.0; hidden];
                        for j in 0..hidden {
                            d_b_h[j] += delta[j];
                            for i in 0..d_in {
                                d_w_xh[i * hidden + j] += x[row(t, d_in)][i] * delta[j];
                                d_x[row(t, d_in)][i] += w_xh[i * hidden + j] * delta[j];
                            }
                            for i in 0..hidden {
                                d_w_hh[i * hidden + j] += h_prev[i] * delta[j];
                                carry[i] += w_hh[i * hidden + j] * delta[j];
                            }
                        }
                    }
                    for j in 0..if low == 0 { hidden } else { 0 } {
                        d_h0[row(0, hidden)][j] += carry[j];
                    }
                    first += block;
                }
                total += sum / divisor;
                let h_last = before(&h, t_max);
                for j in 0..hidden {
                    total += last[row(0, hidden)][j] * h_last[j];
                    if lengths[b] == 0 {
                        d_h0[row(0, hidden)][j] = last[row(0, hidden)][j];
                    }
                }
            }
            let mut found = BTreeMap::new();
            for (key, array) in [("loss", vec![total]), ("h", h), ("o", o), ("dW_xh", d_w_xh), ("dW_hh", d_w_hh), ("db_h", d_b_h),
                                 ("dx", d_x), ("dh0", d_h0), ("dW_hy", d_w_hy), ("db_y", d_b_y)] {
                if linear || (key != "dW_hy" && key != "db_y") {
                    found.insert(key, array.into_iter().map(f64::from).collect());
                }
            }
            Ok(found)
        }
    };
}

elman!(elman_float64, f64);
elman!(elman_float32, f32);

// ---- judging: |(got - near) - rest| <= budget, written so that NaN is wrong; an infinite budget judges nothing -------

// The float64 nearest to sign * mantissa * 2^exponent, where that is a normal number: `as` rounds to nearest, ties to even.
fn nearest(sign: i8, mantissa: u128, exponent: i32) -> Option<f64> {
    let power = exponent + 127; // of the leading bit
    if mantissa == 0 || !(-1000..1000).contains(&power) {
        return None;
    }
    let half = exponent / 2; // 2^exponent alone may be too small for a float64
    Some(f64::from(sign) * mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half))
}

fn check_roundings(result: &Arrays, key: &str, near: &[f64]) -> Res<()> {
    let signs: Vec<[u8; 1]> = result.words(&format!("{key}.sign"), "I8")?;
    let halves: Vec<[u8; 16]> = result.words(&format!("{key}.mantissa"), "U64")?; // low, high: little-endian throughout
    let exponents: Vec<[u8; 4]> = result.words(&format!("{key}.exponent"), "I32")?;
    for (i, want) in near.iter().enumerate() {
        let entry = (signs.get(i), halves.get(i), exponents.get(i));
        let (Some(s), Some(m), Some(e)) = entry else { return Err(format!("{key}: too few mantissas")) };
        let found = nearest(i8::from_le_bytes(*s), u128::from_le_bytes(*m), i32::from_le_bytes(*e));
        if found.is_some_and(|value| value != *want) {
            return Err(format!("{key}[{i}]: near is not the mantissa's rounding"));
        }
    }
    Ok(())
}

fn run(folder: &str, answers: Option<&String>) -> Res<bool> {
    let path = format!("{folder}/index.json");
    let index = parse(&fs::read(&path).map_err(|e| format!("{path}: {e}"))?)?;
    if index.get("format")?.text() != "bpttcheck-vectors" || index.get("schema_version")?.size() != 1 {
        return Err(format!("{path}: another format"));
    }
    let (mut vectors, mut judged, mut wrong) = (0, 0, 0);
    let mut worst = (0.0, String::from("nothing"));
    let mut told = String::from("{\"format\": \"bpttcheck-answers\", \"version\": 1, \"answers\": {");
    for vector in index.get("vectors")?.list() {
        if vector.get("cell")?.text() != "elman" || vector.get("loss")?.get("kind")?.text() == "cross_entropy" {
            continue;
        }
        let id = vector.get("id")?.text();
        let problem = Arrays::read(&format!("{folder}/{}", vector.get("problem")?.get("file")?.text()))?;
        let result = Arrays::read(&format!("{folder}/{}", vector.get("result")?.get("file")?.text()))?;
        let _ = write!(told, "{}\n\"{id}\": {{", if vectors > 0 { "," } else { "" });
        vectors += 1;
        let mut dtypes = 0;
        for dtype in vector.get("dtypes")?.list().iter().map(Json::text) {
            let found = match dtype {
                "float64" => elman_float64(vector, &problem)?,
                "float32" => elman_float32(vector, &problem)?,
                _ => continue,
            };
            let _ = write!(told, "{}\"{dtype}\": {{", if dtypes > 0 { ", " } else { "" });
            dtypes += 1;
            for (number, (key, got)) in found.iter().enumerate() {
                let near = result.floats(&format!("{key}.near"))?;
                let (rest, budget) = (result.floats(&format!("{key}.rest"))?, result.floats(&format!("{key}.budget.{dtype}"))?);
                if [near.len(), rest.len(), budget.len()] != [got.len(); 3] {
                    return Err(format!("{id}: {key} has another size in the corpus"));
                }
                check_roundings(&result, key, &near).map_err(|e| format!("{id}: {e}"))?;
                let mut off = None;
                for i in 0..got.len() {
                    let error = ((got[i] - near[i]) - rest[i]).abs();
                    let within = error <= budget[i];
                    if !(within || budget[i] == f64::INFINITY) && off.is_none() {
                        off = Some(i);
                    }
                    if within && error > 0.0 && error / budget[i] > worst.0 {
                        worst = (error / budget[i], format!("{key}[{i}] of {id} in {dtype}"));
                    }
                }
                if let Some(i) = off {
                    wrong += 1;
                    println!("wrong: {id} {dtype} {key}[{i}]: got {:e}, want {:e}, budget {:e}", got[i], near[i], budget[i]);
                }
                judged += 1;
                let entries: Vec<String> = got.iter().map(|v| if v.is_finite() { format!("{v:e}") } else { format!("\"{v}\"") }).collect();
                let _ = write!(told, "{}\"{key}\": [{}]", if number > 0 { ", " } else { "" }, entries.join(","));
            }
            told.push('}');
        }
        told.push('}');
    }
    told.push_str("}}\n");
    println!("{vectors} vectors, {judged} arrays, {wrong} wrong; largest error within: {:.3} of the budget, {}", worst.0, worst.1);
    if let Some(path) = answers {
        fs::write(path, told).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(wrong == 0)
}

fn main() {
    let words: Vec<String> = env::args().collect();
    let outcome = match words.get(1) {
        Some(folder) => run(folder, words.get(2)),
        None => Err("usage: consume VECTORS [ANSWERS]".into()),
    };
    process::exit(match outcome {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(why) => {
            eprintln!("consume: {why}");
            2
        }
    });
}
