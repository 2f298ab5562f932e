/**
 * How runs of requests enter indices (core/targets/write-runs). Documents are written under an alias of the index that
 * only one run knows; another run puts another one in its place, and waits for what the engine had begun. What comes
 * later under the old alias is refused. It creates no index either, because the alias has capitals, which an index can't
 * have.
 */
import { randomBytes } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import * as z from "zod";
import { WriteRuns } from "../../src/core/targets/write-runs.ts";
import { searchError, unmarkedError } from "./errors.ts";
import { formOf, type SearchClient } from "./http.ts";
import { storedIndices, uuidIn } from "./indices/found-index.ts";
import { chunksByLength, lostError } from "./indices/presence.ts";
import type { IndexIdentity } from "./indices/tables.ts";

const MARK = "millrace%WRITE-";
const LOOK_AGAIN_MS = 100;
/** A bulk of eight megabytes takes less than a second on a healthy server. */
const SETTLED_MS_MAX = 60_000;

const TASKS = z.object({
  /** The request's own task is always among them. */
  tasks: z
    .array(z.object({ node: z.string(), id: z.number(), headers: z.record(z.string(), z.string()).default({}) }))
    .min(1),
  node_failures: z.array(z.unknown()).default([]),
});
const ENTERING = "fencing the sink's indices";

interface Entered {
  readonly aliases: readonly string[];
  /** Whether one of them was made now. */
  readonly areNew: boolean;
}

export class WriteFence {
  readonly #client: SearchClient;
  readonly #prefix: string;
  /** Begins the mark that our requests carry; the run follows. */
  readonly #owner: string;
  readonly #runs = new WriteRuns(randomId);
  /** By UUID, of indices that a run has entered. */
  readonly #aliases = new Map<string, string>();

  /** `owner`: the parts of the sink's name, in an order that is always the same. */
  constructor(client: SearchClient, prefix: string, owner: readonly string[]) {
    this.#client = client;
    this.#prefix = prefix;
    // Encoded, none has a slash.
    this.#owner = `millrace ${[prefix, ...owner].map(encodeURIComponent).join("/")} `;
    client.sender = this;
  }

  /** Tells the requests of the run from others in the engine's list of tasks. */
  get mark(): string {
    return `${this.#owner}${this.#runs.id}`;
  }

  unanswered(): void {
    this.#runs.unanswered();
  }

  /** For an index that does not exist yet: no request that we gave up can know it. */
  newAlias(): string {
    return `${this.#prefix}${MARK}${randomId()}`;
  }

  made(uuid: string, alias: string): void {
    this.#aliases.set(uuid, alias);
    this.#runs.entered(uuid);
  }

  /** The aliases under which these indices are written from now on, in their order. Call it before each write. */
  async enter(indices: readonly IndexIdentity[], signal: AbortSignal): Promise<Entered> {
    const unentered = this.#runs.unentered(indices, ({ uuid }) => uuid);
    const made = new Map<string, string>();
    for (const chunk of chunksByLength(unentered, ({ index }) => index)) await this.#replace(chunk, made, signal);
    if (unentered.length > 0) await this.#expectOver(signal);
    for (const [uuid, alias] of made) this.made(uuid, alias);
    return { aliases: indices.map(({ uuid }) => this.#aliases.get(uuid)!), areNew: unentered.length > 0 };
  }

  /** Nothing that this sink has sent changes these indices any more. */
  async leave(indices: readonly IndexIdentity[], signal: AbortSignal): Promise<void> {
    for (const chunk of chunksByLength(indices, ({ index }) => index)) {
      const stale = (await this.#look(chunk, signal)).flatMap(({ index, aliases }) =>
        aliases.map((alias) => ({ remove: { index, alias } })),
      );
      if (stale.length > 0) await this.#change(stale, signal);
    }
    this.#runs.unanswered();
  }

  async #replace(indices: readonly IndexIdentity[], made: Map<string, string>, signal: AbortSignal): Promise<void> {
    const found = new Map((await this.#look(indices, signal)).map((one) => [one.uuid, one]));
    const actions: object[] = [];
    for (const one of indices) {
      const { index, uuid } = one;
      const held = found.get(uuid);
      if (held?.index !== index) throw await lostError(this.#client, one, { name: index, text: ENTERING }, signal);
      const next = this.newAlias();
      // The request fails as a whole if one that came late has changed the aliases since.
      for (const old of held.aliases) actions.push({ remove: { index, alias: old, must_exist: true } });
      actions.push({ add: { index, alias: next, is_write_index: true, is_hidden: true } });
      made.set(uuid, next);
    }
    await this.#change(actions, signal);
  }

  async #change(actions: readonly object[], signal: AbortSignal): Promise<void> {
    await this.#client.askEveryNode({ method: "POST", path: "/_aliases", body: { actions } }, ENTERING, signal);
  }

  /** Our write aliases of these indices, as far as they exist. */
  async #look(indices: readonly IndexIdentity[], signal: AbortSignal) {
    const names = indices.map(({ index }) => index);
    const found = await storedIndices(this.#client, names, { text: ENTERING, parts: "*.aliases,*.settings" }, signal);
    return found.map(([index, { aliases, settings }]) => ({
      index,
      uuid: uuidIn(settings),
      aliases: Object.keys(aliases).filter((alias) => alias.startsWith(`${this.#prefix}${MARK}`)),
    }));
  }

  /** Waits for requests of earlier runs that the engine had begun before their alias was gone. */
  async #expectOver(signal: AbortSignal): Promise<void> {
    const until = performance.now() + SETTLED_MS_MAX;
    const begun = await this.#running(signal);
    for (let running = begun; !begun.isDisjointFrom(running); running = await this.#running(signal)) {
      if (performance.now() > until) {
        throw searchError("MR2001", "retryable", "requests that this sink has given up still run in the search engine");
      }
      await setTimeout(LOOK_AGAIN_MS, undefined, { signal });
    }
  }

  /** Names of the tasks that are requests of earlier runs, and their parts on other nodes. */
  async #running(signal: AbortSignal): Promise<ReadonlySet<string>> {
    const query = {
      actions: "indices:*,cluster:monitor/tasks/lists",
      group_by: "none",
      filter_path: "tasks.node,tasks.id,tasks.headers,node_failures",
    };
    // Another request may begin a run before this one is answered.
    const { mark: own } = this;
    const answer = await this.#client.ask({ method: "GET", path: "/_tasks", query }, ENTERING, signal);
    const { tasks, node_failures: silent } = formOf(TASKS, answer, ENTERING);
    if (silent.length > 0) throw searchError("MR2001", "retryable", "a node of the cluster does not show its tasks");
    const marks = tasks.map(({ headers }) => headers["X-Opaque-Id"] ?? "");
    if (!marks.includes(own)) throw unmarkedError();
    const isOld = (mark: string): boolean => mark.startsWith(this.#owner) && mark !== own;
    return new Set(tasks.flatMap(({ node, id }, i) => (isOld(marks[i]!) ? `${node}:${id}` : [])));
  }
}

function randomId(): string {
  return randomBytes(8).toString("hex");
}
