// What a package says and how it is tested: for run.mjs in Node, and for the page in runners/web.
// A host reads the package's files and makes sessions: {ort, version, facts, text, bytes, session, wrongFiles}.

const KINDS = {
  float16: globalThis.Float16Array ?? Uint16Array, float32: Float32Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};
const LEVELS = { disable_all: 'disabled', enable_basic: 'basic', enable_extended: 'extended', enable_layout: 'layout', enable_all: 'all' };
// What Python's \S leaves out; JavaScript's has two more and five fewer.
const WORD = '[^\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';

/** What happened, what to do, the exit code. */
export class Refused extends Error {
  constructor(what, doThis, code = 2) {
    super(what);
    Object.assign(this, { what, do: doThis, code });
  }
}

/** As many digits as one reads. */
const brief = (value, digits = 3) => String(Number(value.toPrecision(digits)));
export const hexOf = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
export const sha256 = async (bytes) => hexOf(await crypto.subtle.digest('SHA-256', bytes));

/** Name -> SHA-256, as SHA256SUMS lists them. */
export const listed = (text) => new Map(text.split('\n').filter(Boolean).map((line) => [line.slice(66), line.slice(0, 64)]));

/** Elements of a type that numpy names so, in memory that is already there. */
export function elements(dtype, buffer, offset, shape) {
  if (!KINDS[dtype]) throw new Refused(`JavaScript has no ${dtype}.`, 'Give another type.');
  return new KINDS[dtype](buffer, offset, shape.reduce((one, other) => one * other, 1));
}

function half(bits) {
  const fraction = bits & 1023, exponent = (bits >> 10) & 31, sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** A tensor's numbers; where there is no Float16Array its bits come as integers. */
export const numbers = ({ type, data }) => (type === 'float16' && data instanceof Uint16Array ? Float32Array.from(data, half) : data);

/** [the largest difference of finite values, what is wrong or '']; within the tolerance no clear answer can be another. */
export function compared(got, want, tolerance) {
  if (got.type !== want.type || String(got.dims) !== String(want.dims)) {
    return [0, `is ${got.type}[${got.dims}], not ${want.type}[${want.dims}]`];
  }
  const found = numbers(got), wanted = numbers(want), count = wanted.length;
  if (!want.type.startsWith('float')) {
    const wrong = wanted.reduce((sum, value, place) => sum + (value !== found[place]), 0);
    return [0, wrong ? `differs in ${wrong} of ${count} values` : ''];
  }
  const limits = Float64Array.from(wanted, (value) => tolerance.absolute + tolerance.relative * Math.abs(value));
  let largest = 0, many = 0;
  for (let place = 0; place < count; place++) {
    const one = found[place], other = wanted[place], off = Math.abs(one - other);
    if (Number.isFinite(off)) largest = Math.max(largest, off);
    const near = one === other || (Number.isNaN(one) && Number.isNaN(other)) || (Number.isFinite(off) && off <= limits[place]);
    many += !near;
  }
  if (many) return [largest, `is off by ${brief(largest)} in ${many} values, ${brief(tolerance.absolute)} is allowed`];
  return [largest, ''];
}

/** The row of TF-IDF weights of a sentence. */
export function weighed(text, how) {
  const idf = Float32Array.from(how.idf), row = new Float32Array(idf.length);
  for (const [token] of text.toLowerCase().matchAll(new RegExp(how.tokenizer.pattern.replaceAll('\\S', WORD), 'gu'))) {
    if (Object.hasOwn(how.vocabulary, token)) row[how.vocabulary[token]] += 1;
  }
  const heavy = row.map((count, column) => count * idf[column]);
  const length = Math.sqrt(heavy.reduce((sum, value) => sum + value * value, 0));
  return heavy.map((value) => value / Math.max(length, 1e-30));
}

/** RGBA pixels -> (1, C, H, W), resized as Pillow does: each output pixel is a triangle's mean, in 22 bits, whole numbers between. */
export function pictured(pixels, width, height, how) {
  const channels = how.channels, planes = new Uint8Array(width * height * channels);
  for (let place = 0; place < width * height; place++) {
    const [red, green, blue] = pixels.subarray(4 * place, 4 * place + 3);
    if (channels === 1) planes[place] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;
    else planes.set([red, green, blue], 3 * place);
  }
  let size = [how.width, how.height];
  if (how.crop) {
    const scale = Math.max(how.width / width, how.height / height) / how.crop;
    size = [Math.max(how.width, even(width * scale)), Math.max(how.height, even(height * scale))];
  }
  // across first; Pillow 13 begins downwards in tall pictures, which makes a pixel differ by one of its 256 levels at most
  const wide = resized(planes, height, width, size[0], channels), done = resized(wide, 1, height, size[1], size[0] * channels);
  const left = Math.floor((size[0] - how.width) / 2), top = Math.floor((size[1] - how.height) / 2);
  const made = new Float32Array(channels * how.height * how.width);
  made.forEach((_, place) => {
    const column = place % how.width, row = Math.floor(place / how.width) % how.height, channel = Math.floor(place / how.width / how.height);
    const pixel = done[((top + row) * size[0] + left + column) * channels + channel];
    const scaled = Math.fround(pixel * Math.fround(how.scale)) - Math.fround(how.mean[channel]);
    made[place] = Math.fround(scaled) / Math.fround(how.std[channel]);
  });
  return made;
}

/** As Python rounds. */
const even = (value) => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/** (outer, from, inner) -> (outer, to, inner). */
function resized(values, outer, from, to, inner) {
  if (from === to) return values;
  const made = new Uint8Array(outer * to * inner), scale = from / to, support = Math.max(1, scale);
  for (let target = 0; target < to; target++) {
    const middle = (target + 0.5) * scale;
    const first = Math.max(0, Math.floor(middle - support + 0.5)), last = Math.min(from, Math.floor(middle + support + 0.5));
    const weights = Array.from({ length: last - first }, (_, step) => Math.max(0, 1 - Math.abs((first + step - middle + 0.5) / support)));
    const whole = weights.reduce((sum, weight) => sum + weight, 0), shares = weights.map((weight) => Math.round((weight / whole) * 2 ** 22));
    for (let row = 0; row < outer; row++) {
      for (let each = 0; each < inner; each++) {
        let sum = 2 ** 21;
        for (let step = 0; step < shares.length; step++) sum += shares[step] * values[(row * from + first + step) * inner + each];
        made[(row * to + target) * inner + each] = Math.floor(sum / 2 ** 22);
      }
    }
  }
  return made;
}

/** A package, once its description is read. */
export class Package {
  static async open(host) {
    const made = Object.assign(new Package(), { host, told: JSON.parse(await host.text('nnx/package.json')) });
    return Object.assign(made, { labels: (await made.read(made.told.labels)) ?? [] });
  }

  async read(name) {
    return name ? JSON.parse(await this.host.text(name)) : null;
  }

  /** How a sentence or a picture becomes an input; null where that is not told. */
  async prepare() {
    this.how ??= await this.read(this.told.preprocessing);
    return this.how;
  }

  /** The variants called so; all without a name, the recommended one first. */
  chosen(name) {
    const found = this.told.variants.filter((each) => name === undefined || name === each.name);
    if (found.length) return found;
    throw new Refused(`There is no variant '${name}'.`, `Choose from ${this.told.variants.map((each) => each.name).join(', ')}.`);
  }

  /** {run, loadMs} of a variant, opened as the package asks; its row tells the threads where nobody else does. */
  async session(variant, threads) {
    const count = threads ?? variant.row?.threads ?? 1, extra = {};
    const options = { intraOpNumThreads: count, logSeverityLevel: 4, extra };
    for (const [key, value] of Object.entries(variant.session_options)) {
      if (key === 'session.graph_optimization_level') options.graphOptimizationLevel = LEVELS[value];
      else if (key === 'session.execution_mode') Object.assign(options, { executionMode: value, interOpNumThreads: count });
      else if (key === 'session.enable_mem_pattern') options.enableMemPattern = value === '1';
      else extra[key] = value;
    }
    const started = performance.now();
    try {
      const session = await this.host.session(variant, options);
      const loadMs = performance.now() - started;
      return { run: (feeds) => session.run(feeds), release: () => session.release(), loadMs };
    } catch (error) {
      const what = `onnxruntime ${this.host.version} refuses ${variant.model}: ${String(error.message ?? error).split('\n')[0].slice(-200)}`;
      throw new Refused(what, `It wants onnxruntime ${variant.onnxruntime} or later.`, 1);
    }
  }

  /** Golden arrays by name. */
  tensors(described, content) {
    return Object.fromEntries(described.map((each) => {
      const data = elements(each.dtype, content.buffer, content.byteOffset + each.offset, each.shape);
      return [each.name, new this.host.ort.Tensor(each.dtype, data, each.shape)];
    }));
  }

  /** {golden, content}: what golden.json says, and all its arrays. */
  async golden() {
    return { golden: JSON.parse(await this.host.text('nnx/golden.json')), content: await this.host.bytes('nnx/golden.bin') };
  }

  /** The receipt; `heard` is told each check as it is done; `trust` is the PEM of the key that must have signed all files. */
  async selfTest({ variant, threads, maxSlowdown, trust, heard = () => {} } = {}) {
    const checks = [], told = {}, { host } = this, variants = this.chosen(variant);
    const check = (name, wrong, right) => {
      checks.push({ name, ok: !wrong, detail: wrong || right });
      return heard(checks.at(-1));
    };
    const sums = await host.bytes('SHA256SUMS');
    const wrong = await host.wrongFiles(listed(new TextDecoder().decode(sums)), ['SHA256SUMS', 'model.sig']);
    await check('files', wrong.join('; '), 'as in SHA256SUMS');
    if (trust !== undefined) {
      const key = await this.#trusted(trust);
      await check('signature', (await this.#unsigned(key)).join('; '), `by ${key.fingerprint}`);
    }
    const { golden, content } = await this.golden(), how = await this.prepare();
    for (const [number, each] of golden.cases.entries()) {
      if (each.text === null) continue;
      const made = weighed(each.text, how), want = this.tensors(each.inputs, content)[how.input].data;
      const off = want.reduce((most, value, place) => Math.max(most, Math.abs(value - made[place])), 0);
      const said = `the input is off by ${brief(off)}`;
      await check(`preprocessing ${number}`, off <= 1e-6 ? '' : said, said);
    }
    for (const each of variants) {
      const said = `${host.version}, at least ${each.onnxruntime} is wanted`;
      const [[major, minor], [least, lesser]] = [host.version, each.onnxruntime].map((name) => name.split('.').map(Number));
      await check(`onnxruntime ${each.name}`, major < least || (major === least && minor < lesser) ? said : '', said);
      try {
        const { result, wrong } = await this.#tested(each, threads, golden, content);
        await check(`golden ${each.name}`, wrong.join('; '), `${golden.cases.length} cases`);
        await check(`placement ${each.name}`, '', 'not told');
        const p50 = result.latency_ms.p50, beside = result.slower ? `, ${brief(result.slower, 2)} times that of ${each.row.machine}` : '';
        const measured = `${brief(p50)} ms${beside}`;
        await check(`latency ${each.name}`, maxSlowdown && result.slower > maxSlowdown ? measured : '', measured);
        told[each.name] = result;
      } catch (error) {
        await check(`golden ${each.name}`, error.what ?? `${error.name}: ${error.message}`, '');
      }
    }
    return {
      ok: checks.every((each) => each.ok), package: this.told.name, version: this.told.version, digest: await sha256(sums), checks,
      onnxruntime: host.version, ...host.facts, latency_ms: Object.values(told)[0]?.latency_ms ?? null, variants: told,
    };
  }

  async #trusted(pem) {
    const { publicKey } = await import('./signature.mjs');
    return publicKey(pem).catch((error) => {
      throw new Refused(`The key cannot be trusted: ${error.message}.`, 'Give the public key that nnx keys new made.');
    });
  }

  /** How the files differ from what the owner of the key signed. */
  async #unsigned(key) {
    const { signed } = await import('./signature.mjs'), content = await this.host.bytes('model.sig').catch(() => null);
    if (!content) return ['unsigned: model.sig'];
    try {
      return await this.host.wrongFiles(await signed(content, key), ['model.sig']);
    } catch (error) {
      return [`wrongly signed: model.sig: ${error.message}`];
    }
  }

  async #tested(variant, threads, golden, content) {
    const session = await this.session(variant, threads), wrong = [], largest = {};
    for (const [number, each] of golden.cases.entries()) {
      const got = await session.run(this.tensors(each.inputs, content));
      for (const [name, want] of Object.entries(this.tensors(each.outputs[variant.name], content))) {
        const [off, why] = compared(got[name], want, golden.tolerances[variant.name][name]);
        largest[name] = Math.max(off, largest[name] ?? 0);
        if (why) wrong.push(`'${name}' of case ${number} ${why}`);
      }
    }
    const first = this.tensors(golden.cases[0].inputs, content);
    await timed(session, first, 3, 50);
    const runs = (await timed(session, first, 10, 300)).sort((one, other) => one - other);
    const at = (share) => runs[Math.floor((runs.length * share) / 100)], latency = { p50: at(50), p99: at(99) };
    const slower = variant.row ? latency.p50 / variant.row.latency_ms.p50 : null;
    await session.release();
    return { wrong, result: { latency_ms: latency, load_ms: session.loadMs, slower, nodes: {}, largest_difference: largest } };
  }

  /** What the outputs say, with the milliseconds of one run. */
  async answer(feeds, variant, session) {
    const started = performance.now();
    let outputs;
    try {
      outputs = await session.run(feeds);
    } catch (error) {
      throw new Refused(`onnxruntime refuses that input: ${error.message.split('\n')[0].slice(-200)}`, 'Give what nnx/package.json says of it.');
    }
    const told = { variant: variant.name, latency_ms: performance.now() - started };
    const first = outputs[this.told.outputs[0].name], scores = [...numbers(first)].map(Number), { labels } = this;
    if (labels.length && scores.length === labels.length && first.dims.at(-1) === labels.length) {
      const order = scores.map((_, place) => place).sort((one, other) => scores[other] - scores[one] || one - other).slice(0, 5);
      return { answer: labels[order[0]], scores: Object.fromEntries(order.map((place) => [labels[place], scores[place]])), ...told };
    }
    const lists = Object.entries(outputs).map(([name, each]) => [name, nested([...numbers(each)].map(Number), each.dims)]);
    return { outputs: Object.fromEntries(lists), ...told };
  }
}

const nested = (values, [count, ...rest]) => {
  if (count === undefined) return values[0];
  const size = values.length / count;
  return Array.from({ length: count }, (_, place) => nested(values.slice(place * size, (place + 1) * size), rest));
};

/** Each run's milliseconds. */
export async function timed(session, feeds, minRuns, milliseconds) {
  const runs = [], end = performance.now() + milliseconds;
  while (runs.length < minRuns || performance.now() < end) {
    const before = performance.now();
    await session.run(feeds);
    runs.push(performance.now() - before);
  }
  return runs;
}
