// worker.rs: a worker of bpttcheck, one file on Rust's standard library; docs/protocol.md says what it speaks.
//
//     rustc --edition 2021 -O worker.rs && ./worker
//
// It serves the Elman cell, without or with a linear readout, for a cotangent or a squared error, under every truncation
// but `cec`, in float64 and in float32, each computed in itself. To serve a kernel of your own, replace `solve`, and say
// in SUPPORTS what it does. Exit status: 0 at the end of the requests, 1 where an answer cannot be written, 2 at a frame
// that is none.
#![allow(non_snake_case)] // W_hh, T and B are mathematics

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::{Add, AddAssign, Div, Mul, Sub};

const SUPPORTS: &str = r#"{"cells": ["elman"], "activations": ["tanh", "sigmoid", "relu", "identity"],
 "readouts": ["none", "linear"], "losses": ["cotangent", "squared_error"], "reductions": ["sum", "mean", "tokens"],
 "truncations": ["full", "window", "chunk", "periodic"], "dtypes": ["float64", "float32"], "lengths": true,
 "final_cotangents": true, "h0_none": true, "deterministic": true}"#;
const MOST: usize = 1 << 30; // bytes of a request, and of an array of an answer
const DEEPEST: usize = 32; // objects and lists within one another
const MOST_NODES: usize = 1 << 16; // values of one JSON text

/// What is answered in place of gradients, and goes on.
enum Refusal {
    Unsupported(&'static str), // a configuration that is not served
    Error(String),             // a request that is wrong, or too large
}
use Refusal::{Error, Unsupported};

fn wrong<V>(name: &str, what: &str) -> Result<V, Refusal> {
    Err(Error(format!("{name}: {what}")))
}

// ---- numbers: float64 and float32, each in its own arithmetic --------------------------------------------------------

pub trait Real:
    Copy + PartialOrd + AddAssign + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    const DTYPE: &'static str;
    const BYTES: usize;
    fn of(value: f64) -> Self;
    fn tanh(self) -> Self;
    fn exp(self) -> Self;
    fn read(bytes: &[u8]) -> Self;
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! real {
    ($type:ident, $dtype:literal, $bytes:literal) => {
        impl Real for $type {
            const DTYPE: &'static str = $dtype;
            const BYTES: usize = $bytes;
            fn of(value: f64) -> Self {
                value as $type
            }
            fn tanh(self) -> Self {
                $type::tanh(self)
            }
            fn exp(self) -> Self {
                $type::exp(self)
            }
            fn read(bytes: &[u8]) -> Self {
                let mut all = [0; $bytes];
                all.copy_from_slice(bytes);
                $type::from_le_bytes(all)
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}
real!(f64, "F64", 8);
real!(f32, "F32", 4);

// ---- the gradient ----------------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
enum Activation {
    Tanh,
    Sigmoid,
    Relu,
    Identity,
}

/// phi(a)
fn phi<R: Real>(kind: Activation, a: R) -> R {
    let (zero, one) = (R::of(0.0), R::of(1.0));
    match kind {
        Activation::Tanh => a.tanh(),
        Activation::Sigmoid if a < zero => a.exp() / (one + a.exp()),
        Activation::Sigmoid => one / (one + (zero - a).exp()),
        Activation::Relu => if a > zero { a } else { zero },
        Activation::Identity => a,
    }
}

/// phi'(a) from h = phi(a)
fn slope<R: Real>(kind: Activation, h: R) -> R {
    let (zero, one) = (R::of(0.0), R::of(1.0));
    match kind {
        Activation::Tanh => one - h * h,
        Activation::Sigmoid => h * (one - h),
        Activation::Relu => if h > zero { one } else { zero },
        Activation::Identity => one,
    }
}

/// out_j += sum_i v_i W_ij
fn add_product<R: Real>(out: &mut [R], v: &[R], W: &[R]) {
    for (v_i, row) in v.iter().zip(W.chunks_exact(out.len())) {
        out.iter_mut().zip(row).for_each(|(out_j, W_ij)| *out_j += *v_i * *W_ij);
    }
}

/// out_i += sum_j W_ij v_j
fn add_transposed<R: Real>(out: &mut [R], v: &[R], W: &[R]) {
    for (out_i, row) in out.iter_mut().zip(W.chunks_exact(v.len())) {
        row.iter().zip(v).for_each(|(W_ij, v_j)| *out_i += *W_ij * *v_j);
    }
}

/// dW_ij += v_i delta_j
fn add_outer<R: Real>(dW: &mut [R], v: &[R], delta: &[R]) {
    for (v_i, row) in v.iter().zip(dW.chunks_exact_mut(delta.len())) {
        row.iter_mut().zip(delta).for_each(|(dW_ij, delta_j)| *dW_ij += *v_i * *delta_j);
    }
}

fn add<R: Real>(out: &mut [R], v: &[R]) {
    out.iter_mut().zip(v).for_each(|(out_j, v_j)| *out_j += *v_j);
}

/// A problem, its arrays checked; matrices are in C order.
struct Problem<R> {
    T: usize,
    B: usize,
    D: usize,
    H: usize,
    K: usize,
    activation: Activation,
    linear: bool,
    scale: Option<R>,         // of a squared error; None: the loss is a cotangent
    divisors: Vec<R>,         // (B,) what each row's losses are divided by, 1 where there is none
    block: usize,             // losses of so many steps go back together
    depth: Option<usize>,     // to so many steps before the last of them; None: to the first of them
    lengths: Vec<usize>,      // (B,)
    x: Vec<R>,                // (T,B,D)
    h0: Vec<R>,               // (B,H)
    W_xh: Vec<R>,             // (D,H)
    W_hh: Vec<R>,             // (H,H)
    b_h: Vec<R>,              // (H,)
    W_hy: Vec<R>,             // (H,K), empty without a readout
    b_y: Vec<R>,              // (K,)
    g: Vec<R>,                // (T,B,K): the cotangent, or the target
    g_h_final: Option<Vec<R>>, // (B,H)
}

/// An array of an answer: its name, shape and entries.
type Named<R> = (&'static str, Vec<usize>, Vec<R>);

fn zeros<R: Real>(name: &str, shape: &[usize]) -> Result<Vec<R>, Refusal> {
    let count = shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
    let mut out = Vec::new();
    match count {
        Some(count) if count <= MOST / R::BYTES => match out.try_reserve_exact(count) {
            Ok(()) => out.resize(count, R::of(0.0)),
            Err(_) => return wrong(name, "there is no memory for it"),
        },
        _ => return wrong(name, "would be too large"),
    }
    Ok(out)
}

/// a_t = x_t W_xh + h_{t-1} W_hh + b_h     h_t = phi(a_t)     delta_t = dh_t phi'(a_t)
/// dW_xh += x_t^T delta_t     dW_hh += h_{t-1}^T delta_t     dx_t += delta_t W_xh^T     dh_{t-1} = delta_t W_hh^T
fn solve<R: Real>(p: &Problem<R>) -> Result<Vec<Named<R>>, Refusal> {
    let (T, B, D, H, K) = (p.T, p.B, p.D, p.H, p.K);
    let mut h: Vec<R> = zeros("h", &[T, B, H])?;
    let mut o: Vec<R> = zeros("o", &[T, B, K])?;
    let mut dx: Vec<R> = zeros("dx", &[T, B, D])?;
    let (mut dh0, mut dW_xh): (Vec<R>, Vec<R>) = (zeros("dh0", &[B, H])?, zeros("dW_xh", &[D, H])?);
    let (mut dW_hh, mut db_h): (Vec<R>, Vec<R>) = (zeros("dW_hh", &[H, H])?, zeros("db_h", &[H])?);
    let readout: &[usize] = if p.linear { &[H, K] } else { &[0, 0] };
    let (mut dW_hy, mut db_y): (Vec<R>, Vec<R>) = (zeros("dW_hy", readout)?, zeros("db_y", &readout[1..])?);
    let row = |t: usize, b: usize, n: usize| (t * B + b) * n..(t * B + b + 1) * n; // of step t + 1, in an array (T,B,n)
    let before = |h: &[R], t: usize, b: usize| (if t > 0 { &h[row(t - 1, b, H)] } else { &p.h0[row(0, b, H)] }).to_vec();
    let mut loss = R::of(0.0);
    for b in 0..B {
        let (length, divisor) = (p.lengths[b], p.divisors[b]);
        for t in 0..T {
            let prev = before(&h, t, b);
            let h_t = &mut h[row(t, b, H)];
            if t < length {
                let mut a = p.b_h.clone();
                add_product(&mut a, &p.x[row(t, b, D)], &p.W_xh);
                add_product(&mut a, &prev, &p.W_hh);
                h_t.iter_mut().zip(a).for_each(|(h_j, a_j)| *h_j = phi(p.activation, a_j));
            } else {
                h_t.copy_from_slice(&prev);
            }
            let o_t = &mut o[row(t, b, K)];
            o_t.copy_from_slice(if p.linear { &p.b_y } else { h_t });
            if p.linear {
                add_product(o_t, h_t, &p.W_hy);
            }
        }
        let last = |array: &Option<Vec<R>>| array.as_ref().map(|all| all[row(0, b, H)].to_vec());
        let mut sum = R::of(0.0);
        for first in (0..length).step_by(p.block) {
            let end = length.min(first.saturating_add(p.block));
            let bottom = p.depth.map_or(first, |depth| end.saturating_sub(depth));
            let mut carry = vec![R::of(0.0); H]; // dL/dh of the step at hand, from the losses of this block
            if end == length {
                carry = last(&p.g_h_final).unwrap_or(carry);
            }
            for t in (bottom..end).rev() {
                let (prev, h_t) = (before(&h, t, b), &h[row(t, b, H)]);
                if t >= first {
                    let pairs = o[row(t, b, K)].iter().zip(&p.g[row(t, b, K)]);
                    let d_o: Vec<R> = match p.scale {
                        None => p.g[row(t, b, K)].to_vec(),
                        Some(scale) => pairs.clone().map(|(o, y)| R::of(2.0) * scale * (*o - *y) / divisor).collect(),
                    };
                    for (o, y) in pairs {
                        sum += match p.scale {
                            None => *y * *o,
                            Some(scale) => scale * (*o - *y) * (*o - *y),
                        };
                    }
                    if p.linear {
                        add_outer(&mut dW_hy, h_t, &d_o);
                        add(&mut db_y, &d_o);
                        add_transposed(&mut carry, &d_o, &p.W_hy);
                    } else {
                        add(&mut carry, &d_o);
                    }
                }
                let delta: Vec<R> = carry.iter().zip(h_t).map(|(d, h)| *d * slope(p.activation, *h)).collect();
                add_outer(&mut dW_xh, &p.x[row(t, b, D)], &delta);
                add_outer(&mut dW_hh, &prev, &delta);
                add(&mut db_h, &delta);
                add_transposed(&mut dx[row(t, b, D)], &delta, &p.W_xh);
                carry.fill(R::of(0.0));
                add_transposed(&mut carry, &delta, &p.W_hh);
            }
            if bottom == 0 {
                add(&mut dh0[row(0, b, H)], &carry);
            }
        }
        loss += sum / divisor;
        if let Some(g) = last(&p.g_h_final) {
            for (g_j, h_j) in g.iter().zip(before(&h, T, b)) {
                loss += *g_j * h_j;
            }
            if length == 0 {
                dh0[row(0, b, H)].copy_from_slice(&g);
            }
        }
    }
    let mut found = vec![
        ("loss", vec![], vec![loss]),
        ("h", vec![T, B, H], h),
        ("o", vec![T, B, K], o),
        ("dW_xh", vec![D, H], dW_xh),
        ("dW_hh", vec![H, H], dW_hh),
        ("db_h", vec![H], db_h),
        ("dx", vec![T, B, D], dx),
        ("dh0", vec![B, H], dh0),
    ];
    if p.linear {
        found.extend([("dW_hy", vec![H, K], dW_hy), ("db_y", vec![K], db_y)]);
    }
    Ok(found)
}

// ---- JSON ------------------------------------------------------------------------------------------------------------

enum Json {
    Null,
    Bool,
    Number(String), // as it came
    Text(String),
    List(Vec<Json>),
    Object(HashMap<String, Json>),
}

impl Json {
    /// The member of that name; null where there is none, or no object.
    fn get(&self, name: &str) -> &Json {
        match self {
            Json::Object(members) => members.get(name).unwrap_or(&Json::Null),
            _ => &Json::Null,
        }
    }

    fn text(&self) -> &str {
        if let Json::Text(text) = self { text } else { "" }
    }

    fn size(&self) -> Option<usize> {
        if let Json::Number(digits) = self { digits.parse().ok().filter(|n| *n <= MOST) } else { None }
    }

    fn sizes(&self) -> Option<Vec<usize>> {
        if let Json::List(items) = self { items.iter().map(Json::size).collect() } else { None }
    }
}

type Parsed<V> = Result<V, &'static str>;

/// Reads one JSON text, of moderate depth and size.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn whole(text: &str) -> Parsed<Json> {
        let mut reader = Reader { bytes: text.as_bytes(), at: 0, nodes: 0 };
        let value = reader.value(0)?;
        if reader.next() != 0 { Err("something stands behind its JSON") } else { Ok(value) }
    }

    /// The next byte that is no space, 0 at the end; it stays.
    fn next(&mut self) -> u8 {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn take(&mut self, byte: u8) -> Parsed<()> {
        let found = self.next() == byte;
        self.at += 1;
        if found { Ok(()) } else { Err("its JSON is broken") }
    }

    fn value(&mut self, depth: usize) -> Parsed<Json> {
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST_NODES {
            return Err("its JSON is too deep or too long");
        }
        match self.next() {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => Ok(Json::Text(self.string()?)),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Parsed<Json> {
        let mut members = HashMap::new();
        self.take(b'{')?;
        while self.next() != b'}' {
            if !members.is_empty() {
                self.take(b',')?;
            }
            let name = self.string()?;
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            members.insert(name, value);
        }
        self.take(b'}')?;
        Ok(Json::Object(members))
    }

    fn list(&mut self, depth: usize) -> Parsed<Json> {
        let mut items = Vec::new();
        self.take(b'[')?;
        while self.next() != b']' {
            if !items.is_empty() {
                self.take(b',')?;
            }
            items.push(self.value(depth + 1)?);
        }
        self.take(b']')?;
        Ok(Json::List(items))
    }

    /// A number, or true, false, null.
    fn word(&mut self) -> Parsed<Json> {
        let from = self.at;
        while matches!(self.bytes.get(self.at), Some(b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.' | b'E')) {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.bytes[from..self.at]).into_owned();
        match word.as_str() {
            "null" => Ok(Json::Null),
            "true" | "false" => Ok(Json::Bool),
            _ if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && word.parse::<f64>().is_ok() => {
                Ok(Json::Number(word))
            }
            _ => Err("its JSON has a word that is none"),
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let mut units: Vec<u8> = Vec::new();
        self.take(b'"')?;
        loop {
            let byte = *self.bytes.get(self.at).ok_or("a text of its JSON does not end")?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(units).map_err(|_| "a text of its JSON is no UTF-8"),
                b'\\' => {
                    let letter = self.escaped()?;
                    units.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => units.push(byte),
            }
        }
    }

    fn escaped(&mut self) -> Parsed<char> {
        let byte = *self.bytes.get(self.at).ok_or("a text of its JSON does not end")?;
        self.at += 1;
        Ok(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' => byte as char,
            b'u' => {
                let mut code = self.unit()?;
                if (0xd800..0xdc00).contains(&code) && self.bytes[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    code = 0x10000 + (code - 0xd800) * 0x400 + self.unit()?.wrapping_sub(0xdc00) % 0x400;
                }
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err("a text of its JSON has an escape that is none"),
        })
    }

    fn unit(&mut self) -> Parsed<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or("a text of its JSON does not end")?;
        self.at += 4;
        let text = std::str::from_utf8(digits).map_err(|_| "an escape of its JSON is none")?;
        u32::from_str_radix(text, 16).map_err(|_| "an escape of its JSON is none")
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if letter < ' ' => out.push_str(&format!("\\u{:04x}", letter as u32)),
            _ => out.push(letter),
        }
    }
    out + "\""
}

// ---- frames: a length, a header of JSON, and the arrays' bytes -------------------------------------------------------

/// One array of a request, still in its bytes.
struct Array {
    dtype: String,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

struct Frame {
    message: Json,
    arrays: HashMap<String, Array>,
    data: Vec<u8>,
}

/// The next frame's body, None at the end of the stream. A length is believed only as its bytes arrive.
fn read_frame(stream: &mut impl Read) -> Parsed<Option<Vec<u8>>> {
    let (mut head, mut body) = (Vec::new(), Vec::new());
    stream.take(8).read_to_end(&mut head).map_err(|_| "it cannot be read")?;
    if head.is_empty() {
        return Ok(None);
    }
    let length = u64::from_le_bytes(head.try_into().map_err(|_| "it ends within its length")?);
    if length > MOST as u64 {
        return Err("it is longer than 2^30 bytes");
    }
    stream.take(length).read_to_end(&mut body).map_err(|_| "there is no memory for it")?;
    if (body.len() as u64) < length { Err("it ends before its length says") } else { Ok(Some(body)) }
}

fn decode(body: &[u8]) -> Parsed<Frame> {
    let head: [u8; 8] = body.get(..8).and_then(|b| b.try_into().ok()).ok_or("it ends within the length of its header")?;
    let size = usize::try_from(u64::from_le_bytes(head)).ok().filter(|n| *n <= body.len() - 8);
    let (text, data) = body[8..].split_at(size.ok_or("its header is longer than the frame")?);
    let Json::Object(header) = Reader::whole(std::str::from_utf8(text).map_err(|_| "its header is no UTF-8")?)? else {
        return Err("its header is no object");
    };
    let said = header.get("__metadata__").unwrap_or(&Json::Null).get("bpttcheck");
    let message = Reader::whole(if let Json::Text(text) = said { text } else { return Err("it has no message") })?;
    if !matches!(message, Json::Object(_)) {
        return Err("its message is no object");
    }
    let mut arrays = HashMap::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let array = array_of(entry, data.len()).ok_or("an array does not fill its place")?;
        arrays.insert(name.clone(), array);
    }
    Ok(Frame { message, arrays, data: data.to_vec() })
}

fn array_of(entry: &Json, most: usize) -> Option<Array> {
    let dtype = entry.get("dtype").text().to_string();
    let width = match dtype.as_str() {
        "F64" | "I64" => 8,
        "F32" => 4,
        "F16" => 2,
        _ => return None,
    };
    let (shape, place) = (entry.get("shape").sizes()?, entry.get("data_offsets").sizes()?);
    let bytes = shape.iter().try_fold(width, |product: usize, n| product.checked_mul(*n))?;
    let [begin, end] = place.try_into().ok()?;
    (shape.len() <= 8 && begin <= end && end <= most && end - begin == bytes).then_some(Array { dtype, shape, begin, end })
}

/// A frame of a message, given without its closing brace, and of arrays.
fn encode<R: Real>(message: &str, arrays: &[Named<R>]) -> Vec<u8> {
    let mut header = format!("{{\"__metadata__\": {{\"bpttcheck\": {}}}", quoted(&format!("{message}}}")));
    let mut offset = 0;
    for (name, shape, entries) in arrays {
        let end = offset + entries.len() * R::BYTES;
        header += &format!(
            ", \"{name}\": {{\"dtype\": \"{}\", \"shape\": {shape:?}, \"data_offsets\": [{offset}, {end}]}}", R::DTYPE
        );
        offset = end;
    }
    header.push('}');
    let mut out = Vec::with_capacity(16 + header.len() + offset);
    out.extend_from_slice(&((8 + header.len() + offset) as u64).to_le_bytes());
    out.extend_from_slice(&(header.len() as u64).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    arrays.iter().for_each(|(_, _, entries)| entries.iter().for_each(|value| value.write(&mut out)));
    out
}

// ---- a request for gradients -----------------------------------------------------------------------------------------

impl Frame {
    /// The entries of an array, its dtype and shape checked.
    fn entries<R: Real>(&self, name: &str, shape: &[usize]) -> Result<Vec<R>, Refusal> {
        match self.arrays.get(name) {
            None => wrong(name, "is not there"),
            Some(a) if a.dtype != R::DTYPE || a.shape != shape => wrong(name, "has another dtype or shape"),
            Some(a) => Ok(self.data[a.begin..a.end].chunks_exact(R::BYTES).map(R::read).collect()),
        }
    }

    /// The same of an array that may be absent.
    fn maybe<R: Real>(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<R>>, Refusal> {
        if self.arrays.contains_key(name) { self.entries(name, shape).map(Some) } else { Ok(None) }
    }

    fn axes<const N: usize>(&self, name: &str) -> Result<[usize; N], Refusal> {
        let shape = self.arrays.get(name).and_then(|array| <[usize; N]>::try_from(array.shape.clone()).ok());
        match shape {
            Some(shape) if shape.iter().all(|n| *n >= 1) => Ok(shape),
            _ => wrong(name, "is not there, or has no sizes from 1"),
        }
    }

    fn lengths(&self, T: usize, B: usize) -> Result<Vec<usize>, Refusal> {
        let Some(array) = self.arrays.get("lengths") else { return Ok(vec![T; B]) };
        if array.dtype != "I64" || array.shape != [B] {
            return wrong("lengths", "has another dtype or shape");
        }
        let mut out = Vec::new();
        for bytes in self.data[array.begin..array.end].chunks_exact(8) {
            let mut all = [0; 8];
            all.copy_from_slice(bytes);
            match usize::try_from(i64::from_le_bytes(all)) {
                Ok(length) if length <= T => out.push(length),
                _ => return wrong("lengths", "not from 0 to T"),
            }
        }
        Ok(out)
    }
}

/// What each row's losses are divided by.
fn divisors<R: Real>(loss: &Json, lengths: &[usize]) -> Result<Vec<R>, Refusal> {
    let total: usize = lengths.iter().sum();
    let (time, batch) = (loss.get("time_reduction").text(), loss.get("batch_reduction").text());
    let known = |name| name == "sum" || name == "mean";
    if !((time == "tokens" && batch == "tokens") || (known(time) && known(batch))) {
        return Err(Unsupported("reductions of another kind"));
    }
    let of_row = |length: usize| match (time, batch) {
        ("tokens", _) => total,
        _ => (if time == "mean" { length } else { 1 }) * (if batch == "mean" { lengths.len() } else { 1 }),
    };
    Ok(lengths.iter().map(|length| R::of(of_row(*length).max(1) as f64)).collect())
}

/// (block, depth), as a Problem has them.
fn cut(truncation: &Json, T: usize) -> Result<(usize, Option<usize>), Refusal> {
    let steps = |name: &str| match truncation.get(name).size() {
        Some(n) if n >= 1 => Ok(n),
        _ => wrong("truncation", "has no number of steps from 1"),
    };
    match truncation.get("kind").text() {
        "full" => Ok((T, None)),
        "window" => Ok((1, Some(steps("k")?))),
        "chunk" => Ok((steps("k")?, None)),
        "periodic" if steps("k2")? < steps("k1")? => wrong("truncation", "k2 is below k1"),
        "periodic" => Ok((steps("k1")?, Some(steps("k2")?))),
        _ => Err(Unsupported("a truncation of another kind")),
    }
}

fn problem<R: Real>(frame: &Frame, said: &Json) -> Result<Problem<R>, Refusal> {
    let (loss, linear) = (said.get("loss"), said.get("readout").text() == "linear");
    let activation = match said.get("activation").text() {
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "relu" => Activation::Relu,
        "identity" => Activation::Identity,
        _ => return Err(Unsupported("an activation that it does not have")),
    };
    let squared = match loss.get("kind").text() {
        "cotangent" => false,
        "squared_error" => true,
        _ => return Err(Unsupported("a loss of another kind")),
    };
    if said.get("cell").text() != "elman" {
        return Err(Unsupported("a cell other than elman"));
    }
    if !linear && said.get("readout").text() != "none" {
        return Err(Unsupported("a readout of another kind"));
    }
    let [T, B, D] = frame.axes("x")?;
    let [H, _] = frame.axes("params.W_hh")?;
    let K = if linear { frame.axes::<2>("params.W_hy")?[1] } else { H };
    let (block, depth) = cut(said.get("truncation"), T)?;
    let lengths = frame.lengths(T, B)?;
    let scale = match loss.get("scale") {
        _ if !squared => None,
        Json::Number(digits) => Some(R::of(digits.parse().unwrap_or(f64::NAN))),
        _ => return wrong("loss.scale", "is no number"),
    };
    let of = |name: &str, shape: &[usize]| frame.entries::<R>(name, shape);
    Ok(Problem {
        T, B, D, H, K, activation, linear, scale, block, depth,
        divisors: divisors(loss, &lengths)?,
        lengths,
        x: of("x", &[T, B, D])?,
        h0: match frame.maybe("h0", &[B, H])? {
            Some(h0) => h0,
            None => zeros("h0", &[B, H])?,
        },
        W_xh: of("params.W_xh", &[D, H])?,
        W_hh: of("params.W_hh", &[H, H])?,
        b_h: of("params.b_h", &[H])?,
        W_hy: if linear { of("params.W_hy", &[H, K])? } else { vec![] },
        b_y: if linear { of("params.b_y", &[K])? } else { vec![] },
        g: of(if squared { "loss.target" } else { "loss.g" }, &[T, B, K])?,
        g_h_final: if squared { None } else { frame.maybe("loss.g_h_final", &[B, H])? },
    })
}

// ---- serving ---------------------------------------------------------------------------------------------------------

fn message(kind: &str, seq: &str) -> String {
    format!("{{\"type\": \"{kind}\", \"seq\": {seq}")
}

fn gradients<R: Real>(frame: &Frame, said: &Json, seq: &str) -> Result<Vec<u8>, Refusal> {
    Ok(encode(&message("answer", seq), &solve(&problem::<R>(frame, said)?)?))
}

/// The frame that answers a frame.
fn answer(frame: &Frame) -> Vec<u8> {
    let seq = if let Json::Number(digits) = frame.message.get("seq") { digits } else { "null" };
    let said = frame.message.get("problem");
    let found = match (frame.message.get("type").text(), said.get("dtype").text()) {
        ("start", _) => Ok(encode::<f64>(&format!("{}, \"version\": 1, \"supports\": {SUPPORTS}", message("started", seq)), &[])),
        ("release", _) => Ok(encode::<f64>(&message("released", seq), &[])),
        ("gradients", "float64") => gradients::<f64>(frame, said, seq),
        ("gradients", "float32") => gradients::<f32>(frame, said, seq),
        ("gradients", _) => Err(Unsupported("a dtype other than float64 and float32")),
        _ => wrong("type", "a request other than start, gradients, release or stop"),
    };
    found.unwrap_or_else(|refusal| {
        let (kind, reason) = match refusal {
            Unsupported(reason) => ("unsupported", reason.to_string()),
            Error(reason) => ("error", reason),
        };
        encode::<f64>(&format!("{}, \"reason\": {}", message(kind, seq), quoted(&reason)), &[])
    })
}

/// Answers requests until stop or the end of the stream: the exit status.
pub fn serve(requests: &mut impl Read, answers: &mut impl Write) -> i32 {
    loop {
        let frame = match read_frame(requests).and_then(|body| body.map(|body| decode(&body)).transpose()) {
            Ok(None) => return 0,
            Ok(Some(frame)) => frame,
            Err(why) => {
                eprintln!("worker: a frame that cannot be read: {why}");
                return 2;
            }
        };
        if frame.message.get("type").text() == "stop" {
            return 0;
        }
        if answers.write_all(&answer(&frame)).and_then(|()| answers.flush()).is_err() {
            eprintln!("worker: an answer cannot be written");
            return 1;
        }
    }
}

fn main() {
    std::process::exit(serve(&mut io::stdin().lock(), &mut io::stdout().lock()));
}
