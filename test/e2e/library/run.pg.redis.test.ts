/** `run` inside a program: the daemon with a sink of the program's own beside one that Millrace knows. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import {
  type Batch,
  type Change,
  changesOf,
  type Checkpoint,
  checkpointOf,
  checkpointText,
  type Origin,
  run,
  type Sink,
} from "../../../src/library/millrace.ts";
import { freshDatabase, freshKeyPrefix, redisUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

type Seen = Extract<Change, { readonly id: string }>;

/** Keeps the changes, and in a file how far it is. */
class Mine implements Sink {
  readonly name = "mine";
  readonly kind = "mine";
  readonly form = "stream";
  readonly delivery = "idempotent";
  readonly onLost = "fail";
  readonly #path: string;
  readonly #origin: Origin;
  readonly #seen: Map<string, Seen>;
  isClosed = false;

  constructor(path: string, origin: Origin, seen: Map<string, Seen>) {
    this.#path = path;
    this.#origin = origin;
    this.#seen = seen;
  }

  target({ schema, table }: { readonly schema: string; readonly table: string }): string {
    return `${schema}.${table}`;
  }

  async open(): Promise<Checkpoint | null> {
    return await this.look();
  }

  async look(): Promise<Checkpoint | null> {
    return existsSync(this.#path) ? checkpointOf(readFileSync(this.#path, "utf8")) : null;
  }

  async prepare(): Promise<void> {}

  async apply(batch: Batch): Promise<void> {
    for (const change of changesOf(batch, this.#origin)) if ("after" in change) this.#seen.set(change.id, change);
    writeFileSync(this.#path, checkpointText(batch.checkpoint));
  }

  async verify(): Promise<void> {}

  async forget(): Promise<void> {}

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

test("a sink of the program's own gets every change once, and goes on where its checkpoint is", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  const { prefix, ...keys } = freshKeyPrefix();
  await using _ = { prefix, ...keys };
  await source.query("create table notes (id int primary key, note text); insert into notes values (1, 'first')");
  const seen = new Map<string, Seen>();
  const made: Mine[] = [];
  const config = {
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    state: `sqlite:${folder.file("state.db")}`,
    admin: { listen: false },
    sinks: {
      cache: { kind: "redis", url: redisUrl(), prefix },
      mine: (origin: Origin) => {
        const sink = new Mine(folder.file("mine.json"), origin, seen);
        made.push(sink);
        return sink;
      },
    },
  };
  const listeners = process.listenerCount("SIGTERM");
  const notes = () => [...seen.values()].map(({ after }) => after?.["note"]);
  const cache = new Redis(redisUrl());
  try {
    for (const [id, note] of [
      [2, "second"],
      [3, "third"],
    ] as const) {
      const stopping = new AbortController();
      const running = run(config, { signal: stopping.signal });
      await source.query("insert into notes values ($1, $2)", [id, note]);
      await eventually(async () => {
        expect(notes()).toContain(note);
        expect(await cache.hget(`${prefix}public:notes:${id}`, "note")).toBe(note);
      });
      expect(process.listenerCount("SIGTERM")).toBe(listeners);
      stopping.abort();
      await running;
    }
  } finally {
    cache.disconnect();
  }
  expect(seen.size).toBe(3);
  expect(new Set(notes())).toEqual(new Set(["first", "second", "third"]));
  expect(made.map(({ isClosed }) => isClosed)).toEqual([true, true]);
  await expect(run({ ...config, sinks: { other: config.sinks.mine } })).rejects.toMatchObject({ code: "MR1171" });
  await expect(run({ ...config, name: "", sinks: {} })).rejects.toMatchObject({ code: expect.stringMatching(/^MR10/) });
});
