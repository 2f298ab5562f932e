/**
 * docs/freshness.md: 200 transactions a second, each with one who asks for it, beside 1,000 who wait for a sink that is
 * paused. How long after the sink showed the row the answer came; whether any came before; and whether all who waited are
 * answered when the sink goes on.
 */
import { Agent, get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "pg";
import { freePort } from "../scripts/services/processes/port.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected, createDatabases, listen, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { type BenchOptions, type BenchReport, percentile } from "./report.ts";
import { DURABLE } from "./slot.ts";

const TRANSACTIONS_PER_SECOND = 200;
const WAITERS = 1_000;
const WARM_UP_MS = 1_000;
const NAME = "bench";

interface Answer {
  readonly status: number;
  readonly atMs: number;
}

interface Asked {
  readonly committedMs: number;
  readonly askedMs: number;
  readonly answer: Answer;
  /** Read after the answer. */
  readonly isThere: boolean;
}

export async function run({ scale, log }: BenchOptions): Promise<BenchReport> {
  const seconds = Math.max(6, Math.round(15 * scale));
  await using source = await postgres.start({ own: true, settings: DURABLE });
  await using target = await postgres.start({ own: true, settings: DURABLE });
  const from = await connected(source.url);
  await from.query("create table tick (id int primary key, body text)");
  await createDatabases(target.url, "mirror", "paused");
  const port = await freePort();
  await using daemon = new MeasuredDaemon({
    name: NAME,
    source: { kind: "postgres", url: source.url },
    sinks: {
      mirror: { kind: "postgres", url: withDatabase(target.url, "mirror") },
      paused: { kind: "postgres", url: withDatabase(target.url, "paused") },
    },
    admin: { listen: `127.0.0.1:${port}` },
  });
  await daemon.catchUp();
  const mirror = await connected(withDatabase(target.url, "mirror"));
  const readers = new Pool({ connectionString: withDatabase(target.url, "mirror") });
  const seen = new Map<number, number>();
  await listen(mirror, seen);
  daemon.start();
  await daemon.caughtUp(NAME);
  await daemon.ask(NAME, "POST", "/api/v1/pause", { sink: "paused" });
  // Without a limit of sockets: each who waits has one.
  const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
  const fresh = (at: string, sink: string) => ask({ agent, port }, { at, sink, timeout: "300s" });
  const asked: Promise<Asked>[] = [];
  const waiting: Promise<Answer>[] = [];
  const startedMs = performance.now();
  for (let id = 1; id <= seconds * TRANSACTIONS_PER_SECOND; id++) {
    const dueMs = startedMs + (id * 1000) / TRANSACTIONS_PER_SECOND;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    await from.query("insert into tick values ($1, 'a row')", [id]);
    const committedMs = performance.now();
    const { rows } = await from.query<{ at: string }>("select pg_current_wal_insert_lsn()::text as at");
    const at = rows[0]!.at;
    const askedMs = performance.now();
    asked.push(
      fresh(at, "mirror").then(async (answer) => {
        const found = await readers.query("select from tick where id = $1", [id]);
        return { committedMs, askedMs, answer, isThere: found.rowCount === 1 };
      }),
    );
    if (waiting.length < WAITERS) waiting.push(fresh(at, "paused"));
  }
  const all = await Promise.all(asked);
  const stillWaiting = waiting.length;
  await daemon.ask(NAME, "POST", "/api/v1/resume", { sink: "paused" });
  const late = await Promise.all(waiting);
  const delays: number[] = [];
  for (const [i, { askedMs, answer }] of all.entries()) {
    const seenMs = seen.get(i + 1);
    if (seenMs === undefined) throw new Error(`row ${i + 1} was never seen`);
    if (askedMs - startedMs >= WARM_UP_MS) delays.push(Math.max(0, answer.atMs - Math.max(seenMs, askedMs)));
  }
  const early = all.filter(({ isThere }) => !isThere).length;
  const lost = [...all.map(({ answer }) => answer), ...late].filter(({ status }) => status !== 200).length;
  log(`${all.length} answers beside ${stillWaiting} who waited; ${late.length} answered after the pause`);
  agent.destroy();
  await readers.end();
  await daemon.stop();
  await Promise.all([from, mirror].map((client) => client.end()));
  return {
    name: "freshness",
    lines: [
      {
        work: `from the row in the sink to the answer, ${TRANSACTIONS_PER_SECOND} tx/s, ${stillWaiting} others wait`,
        who: "millrace",
        figures: {
          "p50 ms": percentile(delays, 0.5),
          "p99 ms": percentile(delays, 0.99),
          answers: delays.length,
          "too early": early,
          lost: lost,
        },
      },
    ],
    ratios: [
      { what: "p50, ms", value: percentile(delays, 0.5), target: 1, atLeast: false },
      { what: "answers before the sink had the row", value: early, target: 0, atLeast: false },
      { what: "answers lost", value: lost, target: 0, atLeast: false },
    ],
  };
}

interface Where {
  readonly agent: Agent;
  readonly port: number;
}

async function ask({ agent, port }: Where, query: Readonly<Record<string, string>>): Promise<Answer> {
  const answered = Promise.withResolvers<Answer>();
  const path = `/api/v1/fresh?${new URLSearchParams(query).toString()}`;
  get({ agent, host: "127.0.0.1", port, path }, (response) => {
    const answer = { status: response.statusCode ?? 0, atMs: performance.now() };
    response.resume().once("end", () => answered.resolve(answer));
  }).once("error", answered.reject);
  return await answered.promise;
}
