/**
 * Postgres to Redis against a bare load: HSET of the same fields, encoded beforehand and written into one socket as fast as
 * the server accepts it (like `redis-cli --pipe`), into another database of the same server.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { Redis } from "ioredis";
import { redis } from "../scripts/services/servers/redis.ts";
import type { RunningService } from "../scripts/services/service.ts";
import { againstLoad, type Loaded, type LoadTarget } from "./against-load.ts";
import type { Backlog, Work } from "./backlog.ts";
import { rowsOf } from "./orders.ts";
import type { BenchOptions, BenchReport } from "./report.ts";

const ROWS = 500_000;
const WANTED = 0.8;
const CHUNK_BYTES = 256 * 1024;
const PEER_DATABASE = 1;
const LINE_END = 0x0a;

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using server = await redis.start({ own: true });
  const client = new Redis(server.url);
  await using target = new RedisTarget(server, client);
  return await againstLoad(
    "apply-redis",
    target,
    { rowCount: Math.round(ROWS * options.scale), wanted: WANTED },
    options,
  );
}

class RedisTarget implements LoadTarget {
  readonly peer = "bare HSET pipeline";
  readonly serverPid: number | undefined;
  readonly #url: string;
  readonly #port: number;
  readonly #client: Redis;

  constructor({ url, port, pid }: RunningService, client: Redis) {
    this.serverPid = pid;
    this.#url = url;
    this.#port = port;
    this.#client = client;
  }

  sink(): object {
    return { kind: "redis", url: this.#url };
  }

  async prepare(): Promise<void> {}

  async hasMark(name: string): Promise<boolean> {
    return (await this.#client.exists(`public:mark:${name}`)) === 1;
  }

  async load(work: Work, { source }: Backlog): Promise<Loaded> {
    const chunks: Buffer[] = [];
    let parts: string[] = [];
    let length = 0;
    for await (const row of rowsOf(source, work)) {
      const command = hset(`public:orders:${row["id"]}`, row);
      parts.push(command);
      length += command.length;
      if (length < CHUNK_BYTES) continue;
      chunks.push(Buffer.from(parts.join("")));
      parts = [];
      length = 0;
    }
    chunks.push(Buffer.from(parts.join("")));
    return { seconds: await this.#send(chunks, work.rowCount) };
  }

  async #send(chunks: readonly Buffer[], replyCount: number): Promise<number> {
    const socket = connect({ host: "127.0.0.1", port: this.#port, noDelay: true });
    await once(socket, "connect");
    socket.write(`*2\r\n$6\r\nSELECT\r\n$1\r\n${PEER_DATABASE}\r\n`);
    await once(socket, "data");
    const startedMs = performance.now();
    let replies = 0;
    const answered = new Promise<void>((resolve, reject) => {
      socket.on("error", reject);
      socket.on("data", (bytes: Buffer) => {
        for (const byte of bytes) if (byte === LINE_END) replies++;
        if (bytes.includes("-")) reject(new Error("Redis refused a row of the bare load"));
        else if (replies === replyCount) resolve();
      });
    });
    for (const chunk of chunks) if (!socket.write(chunk)) await once(socket, "drain");
    await answered;
    const seconds = (performance.now() - startedMs) / 1000;
    socket.destroy();
    return seconds;
  }

  async count(): Promise<{ own: number; peer: number }> {
    return { own: await this.#keyCount(0), peer: await this.#keyCount(PEER_DATABASE) };
  }

  async #keyCount(database: number): Promise<number> {
    const client = new Redis(`${this.#url}/${database}`);
    let count = 0;
    for await (const keys of client.scanStream({ match: "public:orders:*", count: 10_000 })) {
      count += Array.isArray(keys) ? keys.length : 0;
    }
    client.disconnect();
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.disconnect();
  }
}

function hset(key: string, row: Readonly<Record<string, string | null>>): string {
  const words = ["HSET", key];
  for (const [name, value] of Object.entries(row)) if (value !== null) words.push(name, value);
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`;
}
