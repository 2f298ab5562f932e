/** Checks whether indices are still the recorded ones. */
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { TargetHint } from "../../../src/core/contracts/sink.ts";
import { type MillraceError, reasonOf } from "../../../src/core/errors.ts";
import { droppedError, partError, searchError } from "../errors.ts";
import { expectOk, fieldOf, formOf, parsed, pathOf, type SearchClient } from "../http.ts";
import { IDENTITIES, storedIndices, uuidIn } from "./found-index.ts";
import type { IndexIdentity, TableIndex } from "./tables.ts";

/** The engines refuse request lines over 4 KB (http.max_initial_line_length). */
const PATH_BYTES_MAX = 3_000;
const LOOKING = "looking at the sink's indices";

/** What keeps rows from an index that is there. */
export type Obstacle = Pick<TargetHint, "what" | "fix">;
/** By index. */
export type Unusable = ReadonlyMap<string, Obstacle>;

/** The indices whose alias no longer points to them. Of one that the role may not see nobody knows: its next rows meet that. */
export async function absentIndices(
  client: SearchClient,
  identities: readonly IndexIdentity[],
  signal: AbortSignal,
  onUnusable: (unusable: Unusable) => void = () => undefined,
): Promise<readonly IndexIdentity[]> {
  const absent: IndexIdentity[] = [];
  for (const chunk of chunksByLength(identities, ({ alias }) => alias)) {
    try {
      absent.push(...(await absentOf(client, chunk, onUnusable, signal)));
    } catch (error) {
      if (reasonOf(error) !== "privilege") throw error;
      for (const one of chunk) absent.push(...(await absentOf(client, [one], onUnusable, signal).catch(unlessDenied)));
    }
  }
  return absent;
}

function unlessDenied(error: unknown): readonly IndexIdentity[] {
  if (reasonOf(error) !== "privilege") throw error;
  return [];
}

async function absentOf(
  client: SearchClient,
  identities: readonly IndexIdentity[],
  onUnusable: (unusable: Unusable) => void,
  signal: AbortSignal,
): Promise<readonly IndexIdentity[]> {
  const names = identities.map(({ alias }) => alias);
  const found = new Map(await storedIndices(client, names, { text: LOOKING, parts: "*.settings" }, signal));
  onUnusable(new Map([...found].flatMap(([index, { settings }]) => unusable(index, settings))));
  const missing = identities.filter((one) => !isThere(one, found.get(one.index)));
  if (missing.length === 0) return [];
  const unseen = missing.map(({ alias }) => alias);
  return await stillAbsent(client, missing, { names: unseen, text: LOOKING }, signal);
}

/** The engines keep in the settings that an index is closed. */
const CLOSED = "index.verified_before_close";
const BLOCK = /^index\.blocks\.(?:read|write|read_only|read_only_allow_delete)$/;

function unusable(
  index: string,
  settings: Readonly<Record<string, unknown>>,
): readonly (readonly [index: string, told: Obstacle])[] {
  const isSet = (name: string): boolean => settings[name] === "true" || settings[name] === true;
  if (isSet(CLOSED)) {
    const what = `the index ${index} is closed: nobody can read it, and it takes no rows`;
    return [[index, { what, fix: `POST ${index}/_open` }]];
  }
  const blocks = Object.keys(settings).filter((name) => BLOCK.test(name) && isSet(name));
  if (blocks.length === 0) return [];
  const none = JSON.stringify(Object.fromEntries(blocks.map((name) => [name, null])));
  const fix = `free disk space if a disk is full; else PUT ${index}/_settings ${none}`;
  return [[index, { what: `the index ${index} is blocked: ${blocks.join(", ")}`, fix }]];
}

/**
 * Those of the missing ones that a second look does not find either, by these names. What ignores missing indices leaves out
 * those too that the role may not see: without it the engine refuses them.
 */
async function stillAbsent(
  client: SearchClient,
  missing: readonly IndexIdentity[],
  { names, text, table }: { readonly names: readonly string[]; readonly text: string; readonly table?: string },
  signal: AbortSignal,
): Promise<readonly IndexIdentity[]> {
  const query = { flat_settings: "true", filter_path: "*.settings" };
  const answer = await client.request({ method: "GET", path: pathOf(names), query }, signal);
  if (answer.status === 404) return missing;
  expectOk(answer, text, table);
  const found = formOf(IDENTITIES, answer, text);
  return missing.filter((one) => !isThere(one, found[one.index]));
}

function isThere({ uuid }: IndexIdentity, found: { readonly settings: Parameters<typeof uuidIn>[0] } | undefined) {
  return found !== undefined && uuidIn(found.settings) === uuid;
}

/** Of an index that was not found by this name. */
export async function lostError(
  client: SearchClient,
  identity: IndexIdentity,
  { name, ...what }: { readonly name: string; readonly text: string; readonly table?: string },
  signal: AbortSignal,
): Promise<MillraceError> {
  const absent = await stillAbsent(client, [identity], { names: [name], ...what }, signal);
  if (absent.length > 0) return droppedError(identity.alias);
  return searchError("MR2001", "retryable", `${what.text}: two answers of the search engine differ`);
}

/** Throws if the index has lost a shard. It takes no rows then, and is not waited for: this concerns only `table`. */
export async function expectWhole(
  client: SearchClient,
  { index }: IndexIdentity,
  { id }: Pick<TableVersion, "id">,
  signal: AbortSignal,
): Promise<void> {
  const answer = await client.look({ method: "GET", path: `/_cluster/health${pathOf(index)}` }, signal);
  if (answer.status !== 200 || fieldOf(parsed(answer.body), "status") !== "red") return;
  throw partError("blocked", `the index of ${id}`, id);
}

/** Changes of recorded indices while no daemon ran. */
export interface Revision {
  /** By table id, as they will be recorded from now on. */
  readonly indices: ReadonlyMap<string, TableIndex>;
  /** Tables whose index was dropped or replaced. */
  readonly lost: ReadonlySet<string>;
  /**
   * Tables whose next index was dropped or replaced: its rows must be read again. It stays recorded until another
   * replaces it.
   */
  readonly unfilled: ReadonlySet<string>;
}

export async function reviseIndices(
  client: SearchClient,
  recorded: ReadonlyMap<string, TableIndex>,
  signal: AbortSignal,
): Promise<Revision> {
  const entries = [...recorded];
  const nexts = entries.flatMap(([, { next }]) => next ?? []);
  const absent = new Set(await absentIndices(client, [...entries.map(([, current]) => current), ...nexts], signal));
  const indices = new Map<string, TableIndex>();
  const lost = new Set<string>();
  const unfilled = new Set<string>();
  for (const [id, table] of entries) {
    const { alias, next, shared } = table;
    const moved = next === undefined ? undefined : { ...next, alias, shared };
    if (!absent.has(table)) {
      indices.set(id, table);
      if (next !== undefined && absent.has(next)) unfilled.add(id);
    } else if (moved !== undefined && (await absentIndices(client, [moved], signal)).length === 0) {
      // The alias had moved, and the process ended before recording it.
      indices.set(id, moved);
    } else {
      lost.add(id);
    }
  }
  return { indices, lost, unfilled };
}

/** For requests whose path names each of these: a character of a name can take nine bytes there. */
export function chunksByLength<T>(named: readonly T[], nameOf: (one: T) => string): T[][] {
  const chunks: T[][] = [];
  let length = Infinity;
  for (const one of named) {
    const own = encodeURIComponent(nameOf(one)).length + 1;
    if (length + own > PATH_BYTES_MAX) {
      chunks.push([]);
      length = 0;
    }
    chunks.at(-1)!.push(one);
    length += own;
  }
  return chunks;
}
