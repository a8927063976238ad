// ONNX Runtime alone: answers for an array, then runs as many seconds as each line asks for. MODEL INPUT.npy SHAPE
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import ort from 'onnxruntime-node';

const [model, file, shape] = process.argv.slice(2), bytes = readFileSync(file);
const data = new Float32Array(bytes.buffer.slice(bytes.byteOffset + 10 + bytes.readUInt16LE(8), bytes.byteOffset + bytes.length));
const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, executionProviders: ['cpu'] });
const feeds = { [session.inputNames[0]]: new ort.Tensor('float32', data, shape.split(',').map(Number)) };
const outputs = await session.run(feeds);
console.log(JSON.stringify(Object.values(outputs).map((each) => [...each.data].map(Number))));
for await (const line of createInterface({ input: process.stdin })) {
  const end = performance.now() + Number(line) * 1e3, runs = [];
  while (performance.now() < end) {
    const before = performance.now();
    await session.run(feeds);
    runs.push(performance.now() - before);
  }
  console.log(JSON.stringify(runs));
}
