// Runs the package that it lies in. Needs Node 20 and onnxruntime-node, in a node_modules above it.
//
//     node run.mjs "a sentence" | input.npy     the answer, a line of JSON
//     node run.mjs --self-test [--variant V]    files, version, golden outputs: a receipt in JSON
//     node run.mjs --self-test --trust KEY.pub  the signature too
//     node run.mjs                              requests on stdin, a line each, as nnx's benchmark sends them
//
// Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 not available here.
import { lstat, readFile, readdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Package, Refused, elements, sha256, weighed } from './package.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const TYPES = { f2: 'float16', f4: 'float32', f8: 'float64', b1: 'bool' };
const USAGE = 'Usage: node run.mjs [--variant V] [--threads N] SENTENCE|FILE.npy | --self-test [--max-slowdown X] [--trust KEY.pub]';

async function runtime() {
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
  try {
    return (await import('onnxruntime-node')).default;
  } catch (error) {
    throw new Refused(`onnxruntime-node does not load: ${error.message.split('\n')[0]}.`, 'npm install onnxruntime-node', 3);
  }
}

/** Each file that is not as it is listed, nor one of those besides. */
async function wrongFiles(listed, besides) {
  const found = await readdir(ROOT, { recursive: true, withFileTypes: true });
  const there = found.filter((each) => !each.isDirectory()).map((each) => path.join(each.parentPath ?? each.path, each.name));
  const names = new Set([...listed.keys(), ...there.map((each) => path.relative(ROOT, each).split(path.sep).join('/'))]);
  const wrong = [];
  for (const name of [...names].sort()) {
    if (besides.includes(name)) continue;
    const stat = await lstat(path.join(ROOT, name)).catch(() => null);
    if (!stat) wrong.push(`missing: ${name}`);
    else if (!listed.has(name)) wrong.push(`extra: ${name}`);
    else if (!stat.isFile() || (await hashed(path.join(ROOT, name))) !== listed.get(name)) wrong.push(`changed: ${name}`);
  }
  return wrong;
}

const hashed = async (file) => sha256(await readFile(file));

/** What numpy.save wrote: {dtype, shape, data}. */
async function saved(file) {
  let bytes;
  try {
    bytes = new Uint8Array(await readFile(file));
  } catch (error) {
    throw new Refused(`${file} cannot be read: ${error.message}.`, 'Give what numpy.save wrote.');
  }
  const version = bytes[6], start = version === 1 ? 10 : 12;
  const size = version === 1 ? bytes[8] | (bytes[9] << 8) : new DataView(bytes.buffer).getUint32(8, true);
  const header = new TextDecoder('latin1').decode(bytes.subarray(start, start + size));
  const [, order, kind] = header.match(/'descr': '([<|])(\w\d)'/) ?? [], shape = header.match(/'shape': \(([\d, ]*)\)/);
  const dtype = TYPES[kind] ?? (order && `${kind[0] === 'u' ? 'u' : ''}int${8 * kind[1]}`);
  if (String.fromCharCode(...bytes.subarray(1, 6)) !== 'NUMPY' || !shape || !/^([fiu][1248]|b1)$/.test(kind) || header.includes("order': True")) {
    throw new Refused(`${file} cannot be read: it is not numbers, row by row.`, 'Give what numpy.save wrote.');
  }
  const dims = shape[1].split(',').filter((each) => each.trim()).map(Number);
  if (dims.reduce((one, other) => one * other, 1) * kind[1] !== bytes.length - start - size) {
    throw new Refused(`${file} cannot be read: it is not as long as it says.`, 'Give what numpy.save wrote.');
  }
  return { dtype, dims, data: elements(dtype, bytes.slice(start + size).buffer, 0, dims) };
}

const key = (file) => readFile(file, 'utf8').catch((error) => {
  throw new Refused(`${file} cannot be trusted: ${error.message}.`, 'Give the public key that nnx keys new made.');
});

/** The model's inputs, of a sentence, or of an array as the model takes it. */
async function prepared(given, opened) {
  const { told, host } = opened;
  if (given.endsWith('.npy')) {
    const { dtype, dims, data } = await saved(given);
    return { [told.inputs[0].name]: new host.ort.Tensor(dtype, data, dims) };
  }
  const how = await opened.prepare();
  if (how?.kind === 'tfidf') {
    const row = weighed(given, how);
    return { [how.input]: new host.ort.Tensor('float32', row, [1, row.length]) };
  }
  if (how?.kind === 'image') throw new Refused('Node decodes no pictures.', 'Use the Python runner or the page, or give a .npy.', 3);
  throw new Refused('How to make an input of that is not in the package.', 'Give a .npy of what the model takes.');
}

function asked() {
  const text = { type: 'string' }, options = { 'self-test': { type: 'boolean' }, help: { type: 'boolean' } };
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { ...options, variant: text, threads: text, 'max-slowdown': text, trust: text } });
    for (const name of ['threads', 'max-slowdown']) {
      if (values[name] !== undefined && !(Number(values[name]) > 0)) throw new Error(`--${name} is no number above 0.`);
    }
    if (positionals.length > (values['self-test'] ? 0 : 1)) throw new Error('Name one thing to answer for, or --self-test.');
    const number = (name) => (values[name] === undefined ? undefined : Number(values[name]));
    return { ...values, given: positionals[0], threads: number('threads'), maxSlowdown: number('max-slowdown') };
  } catch (error) {
    throw new Refused(error.message, USAGE);
  }
}

async function main() {
  const { help, given, variant, threads, maxSlowdown, trust, 'self-test': selfTest } = asked();
  if (help) return process.stdout.write(`${USAGE}\n`);
  const ort = await runtime();
  const file = (name) => path.join(ROOT, name);
  const host = {
    ort,
    version: ort.env.versions.node ?? ort.env.versions.common,
    facts: {
      node: process.versions.node,
      machine: { system: os.type(), architecture: os.machine(), processor: os.cpus()[0]?.model ?? '', cores: os.cpus().length },
    },
    wrongFiles,
    text: (name) => readFile(file(name), 'utf8'),
    bytes: async (name) => new Uint8Array(await readFile(file(name))),
    session: (each, options) => {
      if (each.shared_weights) options.extra['session.model_external_initializers_file_folder_path'] = file(each.shared_weights);
      return ort.InferenceSession.create(file(each.model), { ...options, executionProviders: ['cpu'] });
    },
  };
  const opened = await Package.open(host);
  const [first] = opened.chosen(variant);
  if (!selfTest && given === undefined) return (await import('./serve.mjs')).serve(opened, saved);
  const told = selfTest
    ? await opened.selfTest({ variant, threads, maxSlowdown, trust: trust && (await key(trust)) })
    : await opened.answer(await prepared(given, opened), first, await opened.session(first, threads));
  process.stdout.write(`${JSON.stringify(told)}\n`);
  process.exitCode = told.ok ?? true ? 0 : 1;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  if (error.code === 3) {
    process.stdout.write(`${JSON.stringify({ ok: false, error: { kind: 'ProviderUnavailable', what: error.what, do: error.do } })}\n`);
  }
  process.stderr.write(`${error.what} ${error.do}\n`);
  process.exitCode = error.code;
}
