// report IN OUT: reads orders, a JSON file, and writes what each customer bought, most first. Says how much it read, with
// its SHA-256. The same program is there in other languages.
import { getArguments } from 'wasi:cli/environment@0.2.12';
import { getStderr } from 'wasi:cli/stderr@0.2.12';
import { getStdout } from 'wasi:cli/stdout@0.2.12';
import { getDirectories } from 'wasi:filesystem/preopens@0.2.12';
import { sha256 } from './sha256.js';

export const run = {
  run() {
    const [, source, target] = getArguments();
    try {
      if (!target) throw new Error('usage: report IN OUT');
      report(source, target);
    } catch (error) {
      print(getStderr(), `${error.message ?? `report: ${error.payload ?? error}`}\n`);
      throw undefined;
    }
  },
};

function report(source, target) {
  const content = read(source);
  const orders = JSON.parse(new TextDecoder().decode(content));

  const cents = new Map();
  for (const order of orders) {
    cents.set(order.customer, (cents.get(order.customer) ?? 0) + order.count * order.cents);
  }
  const customers = [...cents].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const bought = customers.map(([customer, cents]) => ({ cents, customer }));
  write(target, `${JSON.stringify(bought)}\n`);

  const lines = customers.map(([name, cents]) => {
    const money = `${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, '0')}`;
    return `${name.padEnd(12)}${money.padStart(12)}\n`;
  });
  print(getStdout(), `${orders.length} orders, sha256 ${sha256(content)}\n${lines.join('')}`);
}

function print(stream, text) {
  stream.blockingWriteAndFlush(new TextEncoder().encode(text));
}

function open(path, how, rights) {
  for (const [directory, name] of getDirectories()) {
    if (path.startsWith(`${name}/`)) {
      return directory.openAt({ symlinkFollow: true }, path.slice(name.length + 1), how, rights);
    }
  }
  throw { payload: 'no-entry' };
}

function read(path) {
  const file = open(path, {}, { read: true });
  const bytes = [];
  for (;;) {
    const [chunk, end] = file.read(65536n, BigInt(bytes.length));
    bytes.push(...chunk);
    if (end || chunk.length === 0) return new Uint8Array(bytes);
  }
}

function write(path, text) {
  open(path, { create: true, truncate: true }, { write: true }).write(new TextEncoder().encode(text), 0n);
}
