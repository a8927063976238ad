// What nnx's benchmark asks of a row, a line of JSON each: open, start, turn, memory, outputs.
import { readFile, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Refused, timed } from './package.mjs';

const CODES = { bool: '|b1', float16: '<f2', float32: '<f4', float64: '<f8' };
const product = (lengths) => lengths.reduce((one, other) => one * other, 1);

/** A variant with its samples; without `inputs` of its own it runs on the golden ones. */
class Row {
  static async open(opened, saved, { variant, threads = 1, batch = 1, inputs, axes }) {
    const row = Object.assign(new Row(), { opened, batch, axes: axes?.inputs ?? {}, samples: {} });
    row.session = await opened.session(opened.chosen(variant ?? undefined)[0], threads);
    if (inputs) {
      for (const [name, file] of Object.entries(inputs)) row.samples[name] = await saved(file);
    } else {
      const { golden, content } = await opened.golden();
      const cases = golden.cases.slice(0, golden.singles).map((each) => opened.tensors(each.inputs, content));
      for (const name of Object.keys(cases[0])) {
        const parts = cases.map((each) => each[name]), [first] = parts, size = first.data.length;
        const data = new first.data.constructor(size * parts.length);
        parts.forEach((each, place) => data.set(each.data, place * size));
        row.samples[name] = { dtype: first.type, dims: [parts.length * first.dims[0], ...first.dims.slice(1)], data };
      }
    }
    row.count = Math.max(...Object.values(row.samples).map((each) => each.dims[0]));
    return row;
  }

  /** A whole batch from there on, going round. */
  feeds(start) {
    const made = {};
    for (const [name, { dtype, dims, data }] of Object.entries(this.samples)) {
      const axis = this.axes[name] === undefined ? 0 : this.axes[name], [, ...rest] = dims, size = product(rest);
      const count = axis === null ? 1 : this.batch, inner = axis === null ? size : product(rest.slice(axis));
      const values = new data.constructor(size * count);
      for (let step = 0; step < count; step++) {
        const sample = data.subarray(((start + step) % this.count) * size).subarray(0, size);
        for (let outer = 0; outer * inner < size; outer++) {
          values.set(sample.subarray(outer * inner, (outer + 1) * inner), (outer * count + step) * inner);
        }
      }
      const shape = axis === null ? rest : [...rest.slice(0, axis), count, ...rest.slice(axis)];
      made[name] = new this.opened.host.ort.Tensor(dtype, values, shape);
    }
    return made;
  }

  async start() {
    this.first = this.feeds(0);
    const before = performance.now();
    await this.session.run(this.first);
    const shapes = Object.fromEntries(Object.entries(this.first).map(([name, each]) => [name, [...each.dims]]));
    const facts = { onnxruntime: this.opened.host.version, runner: 'node' };
    return { load_ms: this.session.loadMs, first_run_ms: performance.now() - before, nodes: {}, facts, shapes };
  }

  async turn({ min_runs, most_kept, seconds, warm_up_s }) {
    await timed(this.session, this.first, 0, warm_up_s * 1e3);
    const started = performance.now(), runs = await timed(this.session, this.first, min_runs, seconds * 1e3);
    const spent = (performance.now() - started) / 1e3, step = Math.max(1, Math.ceil(runs.length / most_kept));
    return { runs_ms: runs.filter((_, place) => place % step === 0), runs: runs.length, seconds: spent };
  }

  async memory() {
    const told = await readFile('/proc/self/status', 'utf8').catch(() => ''), peak = told.match(/VmHWM:\s*(\d+)/);
    return { peak_memory_bytes: peak ? Number(peak[1]) * 1024 : null, device_memory_bytes: null };
  }

  /** Each call's outputs, in an .npz that says in "built" which array is which. */
  async outputs({ path }) {
    const built = [], members = [];
    for (let start = 0; start < this.count; start += this.batch) {
      const kept = Math.min(this.batch, this.count - start), call = {};
      for (const [name, { type, dims, data }] of Object.entries(await this.session.run(this.feeds(start)))) {
        const cut = dims[0] === this.batch, shape = cut ? [kept, ...dims.slice(1)] : [...dims];
        call[name] = ['array', String(members.length)];
        members.push([String(members.length), npy(CODES[type] ?? `<${type[0]}${data.BYTES_PER_ELEMENT}`, shape, data.subarray(0, product(shape)))]);
      }
      built.push(call);
    }
    const letters = Uint32Array.from(JSON.stringify(built), (letter) => letter.codePointAt(0));
    await writeFile(path, zip([...members, ['built', npy(`<U${letters.length}`, [], letters)]]));
    return null;
  }
}

/** An array as numpy saves it. */
function npy(code, shape, data) {
  const described = `{'descr': '${code}', 'fortran_order': False, 'shape': (${shape.map((length) => `${length},`).join(' ')}), }`;
  const header = described.padEnd(Math.ceil((described.length + 11) / 64) * 64 - 11) + '\n', start = Buffer.alloc(10);
  start.write('\x93NUMPY\x01\x00', 'latin1');
  start.writeUInt16LE(header.length, 8);
  return Buffer.concat([start, Buffer.from(header), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});
const crc32 = (bytes) => ~bytes.reduce((sum, byte) => CRC[(sum ^ byte) & 255] ^ (sum >>> 8), ~0) >>> 0;

/** Members that are stored as they are. */
function zip(members) {
  const files = [], entries = [];
  let offset = 0;
  for (const [name, content] of members) {
    const file = Buffer.from(`${name}.npy`), head = Buffer.alloc(26);
    head.writeUInt16LE(20, 0); // the version, then flags, method, time: none; 33 is the first day there is
    head.writeUInt16LE(33, 8);
    [crc32(content), content.length, content.length].forEach((value, place) => head.writeUInt32LE(value, 10 + 4 * place));
    head.writeUInt16LE(file.length, 22);
    const more = Buffer.alloc(14);
    more.writeUInt32LE(offset, 10);
    files.push(Buffer.from('PK\x03\x04'), head, file, content);
    entries.push(Buffer.from('PK\x01\x02\x14\x00'), head, more, file);
    offset += 30 + file.length + content.length;
  }
  const list = Buffer.concat(entries), end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...files, list, end]);
}

/** A line of JSON for each one on stdin, until it ends. */
export async function serve(opened, saved) {
  let row;
  for await (const line of createInterface({ input: process.stdin })) {
    let told;
    try {
      const { op, ...request } = JSON.parse(line);
      if (op === 'open') {
        row = await Row.open(opened, saved, request);
        told = { result: null };
      } else if (row && ['start', 'turn', 'memory', 'outputs'].includes(op)) {
        told = { result: await row[op](request) };
      } else {
        throw new Refused(`There is no operation '${op}' now.`, 'Send open, start, turn, memory, outputs.');
      }
    } catch (error) {
      const bug = { kind: 'bug', what: `${error.name}: ${error.message}`, do: 'Look at the request.' };
      told = { error: error instanceof Refused ? { kind: 'BadUsage', what: error.what, do: error.do } : bug };
    }
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
}
