// Whether a package is what the owner of a key signed: for run.mjs in Node, and for the page in runners/web.
// What lies inside a package judges what became of it since somebody looked at it: its maker made this file too.

const TYPE = 'application/vnd.in-toto+json';
const binary = (text) => {
  if (text.length % 4 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw new Error('no base64'); // atob takes more
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
};
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const digest = async (bytes) => hex(await crypto.subtle.digest('SHA-256', bytes));
const decoded = (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
const utf8 = (text) => new TextEncoder().encode(text);

/** {key, fingerprint} of what a .pub file holds: a point of P-256. */
export async function publicKey(pem) {
  const [, text] = pem.match(/-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----/) ?? [];
  try {
    const der = binary(text.replace(/\s/g, '')), lines = btoa(String.fromCharCode(...der)).match(/.{1,64}/g).join('\n');
    const key = await crypto.subtle.importKey('spki', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify']);
    return { key, fingerprint: await digest(utf8(`-----BEGIN PUBLIC KEY-----\n${lines}\n-----END PUBLIC KEY-----\n`)) };
  } catch {
    throw new Error('it holds no public key of P-256');
  }
}

/** r and s, 32 bytes each, of DER's sequence of both, which has one way to write them; null for anything else. */
function numbers(der) {
  const parts = [], bytes = [...der];
  if (bytes[0] !== 0x30 || bytes[1] !== bytes.length - 2 || bytes.length > 72) return null;
  for (let at = 2; at < bytes.length; at += 2 + bytes[at + 1]) {
    const part = bytes.slice(at + 2, at + 2 + bytes[at + 1]), [first, second] = part;
    const spare = first === 0 && part.length > 1, right = bytes[at] === 2 && part.length > 0 && part.length === bytes[at + 1];
    const plain = part.slice(spare ? 1 : 0);
    if (!right || first > 127 || (spare && second < 128) || plain.length > 32) return null;
    parts.push(...new Array(32 - plain.length).fill(0), ...plain);
  }
  return parts.length === 64 ? Uint8Array.from(parts) : null;
}

/** Name -> SHA-256, as model.sig says and the owner of the key has signed. */
export async function signed(content, { key, fingerprint }) {
  let payload, signature, hint, sound;
  try {
    const { mediaType, verificationMaterial, dsseEnvelope: { payloadType, signatures, ...envelope } } = decoded(content);
    payload = binary(envelope.payload);
    signature = binary(signatures[0].sig);
    ({ hint = '' } = verificationMaterial.publicKey);
    sound = mediaType === 'application/vnd.dev.sigstore.bundle.v0.3+json' && payloadType === TYPE && signatures.length === 1;
  } catch {
    sound = false;
  }
  if (!sound) throw new Error("it is no signature of OpenSSF's model signing 1.0");
  if (hint !== '' && hint !== fingerprint) throw new Error('it is signed with another key than the one that is trusted');
  // https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
  const start = utf8(`DSSEv1 ${TYPE.length} ${TYPE} ${payload.length} `), covered = new Uint8Array(start.length + payload.length);
  covered.set(start);
  covered.set(payload, start.length);
  const both = numbers(signature);
  if (!both || !(await crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key, both, covered))) {
    throw new Error('what it says was not signed with the key that is trusted');
  }
  const listed = new Map();
  try {
    const { _type, predicateType, subject, predicate: { serialization, resources } } = decoded(payload), sums = [];
    for (const { name, algorithm, digest: sum } of resources) {
      if (listed.has(name) || typeof name !== 'string' || algorithm !== 'sha256' || !/^[0-9a-f]{64}$/.test(sum)) throw new Error('no file');
      listed.set(name, sum);
      sums.push(...sum.match(/../g).map((byte) => parseInt(byte, 16)));
    }
    sound = _type === 'https://in-toto.io/Statement/v1' && predicateType === 'https://model_signing/signature/v1.0' &&
      serialization.method === 'files' && serialization.hash_type === 'sha256' && subject.length === 1 &&
      subject[0].digest.sha256 === (await digest(Uint8Array.from(sums)));
  } catch {
    sound = false;
  }
  if (!sound) throw new Error('what it signs is not what model signing 1.0 signs');
  return listed;
}
