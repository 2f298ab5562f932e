/** Looks at the versions of documents that no batch of this life has written: those of an earlier one, or of other hands. */
import { setTimeout } from "node:timers/promises";
import * as z from "zod";
import { VERSION_FIELD } from "./write/document.ts";
import { formOf, pathOf, type Request, type SearchClient, WHOLE_SEARCH } from "./http.ts";
import { FORGETS, GC_DELETES } from "./indices/ddl.ts";
import type { IndexOptions } from "./indices/found-index.ts";
import type { IndexIdentity } from "./indices/tables.ts";
import { chunksByLength } from "./indices/presence.ts";

const PAGE = 5_000;

// The engine's `_version` is read as a double. Versions that rounding hides are a few bytes of log above `version`, and
// lower than that of any row that is read from then on.
const HITS = z.object({ hits: z.object({ hits: z.array(z.object({ _version: z.number().optional() })) }) });
const LOOKING = "looking for documents that are not ours";
const FORGETTING = "forgetting deleted documents";
const LOOK_AGAIN_MS = 100;
const FORGOTTEN_MS_MAX = 5_000;

/** When an operator has a sink filled again because somebody changed it by hand: whether a document has a version above `version` (the engine's or ours), or lacks our version. */
export async function holdsForeign(
  client: SearchClient,
  { index }: IndexIdentity,
  version: bigint,
  signal: AbortSignal,
): Promise<boolean> {
  await client.refresh(index, undefined, signal);
  const ours = `{"range":{"${VERSION_FIELD}":{"gt":${version}}}}`;
  const none = `{"bool":{"must_not":{"exists":{"field":"${VERSION_FIELD}"}}}}`;
  const query = `{"bool":{"should":[${ours},${none}]}}`;
  const look = { method: "POST", path: `${pathOf(index)}/_search`, query: WHOLE_SEARCH } as const;
  const body = Buffer.from(`{"size":1,"query":${query}}`);
  const answer = await client.askEveryShard({ ...look, body }, LOOKING, signal);
  return formOf(HITS, answer, LOOKING).hits.hits.length > 0 || hasVersionAbove(client, index, version, signal);
}

/** The engine's own version can't be searched for. */
async function hasVersionAbove(
  client: SearchClient,
  index: string,
  version: bigint,
  signal: AbortSignal,
): Promise<boolean> {
  const body = { size: PAGE, version: true, _source: false, sort: ["_doc"] };
  const ask = (request: Request) => client.askEveryShard(request, LOOKING, signal);
  for await (const { hits } of client.pages(
    index,
    { body },
    (answer) => formOf(HITS, answer, LOOKING).hits,
    ask,
    signal,
  ))
    if (hits.some(({ _version: own = 0 }) => own > Number(version))) return true;
  return false;
}

const STATS = z.object({
  _all: z.object({ total: z.object({ segments: z.object({ version_map_memory_in_bytes: z.number() }) }) }),
});

/**
 * The engine remembers the versions of deleted documents, which can't be listed and hide older documents. It is told to
 * forget them, under the index's alias for writing, as `extendIndex`; whether there are some still.
 */
export async function remembersDeleted(
  client: SearchClient,
  { index }: IndexIdentity,
  alias: string,
  signal: AbortSignal,
): Promise<boolean> {
  const keepFor = async (time: string): Promise<void> => {
    const request = { method: "PUT", path: `${pathOf(alias)}/_settings`, body: { "index.gc_deletes": time } } as const;
    await client.askEveryNode(request, FORGETTING, signal);
  };
  const areThere = async (): Promise<boolean> => {
    await client.refresh(index, undefined, signal);
    // Of replicas too: one that becomes the primary hides what it remembers.
    const query = { filter_path: "_all.total.segments.version_map_memory_in_bytes" };
    const answer = await client.ask(
      { method: "GET", path: `${pathOf(index)}/_stats/segments`, query },
      FORGETTING,
      signal,
    );
    return formOf(STATS, answer, FORGETTING)._all.total.segments.version_map_memory_in_bytes > 0;
  };
  if (!(await areThere())) return false;
  // Where this ends before the time is set back, the next `prepare` finds it.
  await keepFor(FORGETS);
  // A refresh forgets what is older by the engine's clock, which moves five times a second.
  const until = performance.now() + FORGOTTEN_MS_MAX;
  let areLeft = await areThere();
  while (areLeft && performance.now() < until) {
    await setTimeout(LOOK_AGAIN_MS, undefined, { signal });
    areLeft = await areThere();
  }
  await keepFor(GC_DELETES);
  return areLeft;
}

const MARKED = z.record(
  z.string(),
  z.object({ mappings: z.object({ _meta: z.object({ millrace: z.object({ daemon: z.unknown() }) }) }) }),
);

/** By their names; the sink is refused where another's stand. */
export async function ownIndices(
  client: SearchClient,
  { prefix, owner }: { readonly prefix: string } & Pick<IndexOptions, "owner">,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const query = { filter_path: "*.mappings._meta.millrace.daemon", allow_no_indices: "true" };
  const path = `${pathOf(`${prefix}*`)}/_mapping`;
  const answer = await client.ask({ method: "GET", path, query }, LOOKING, signal);
  const found = Object.entries(formOf(MARKED, answer, LOOKING));
  return found.flatMap(([index, { mappings }]) => (mappings._meta.millrace.daemon === owner ? [index] : []));
}

/** Of documents where a sink writes: old ones may be left there. */
export async function highestVersion(
  client: SearchClient,
  names: readonly string[],
  signal: AbortSignal,
): Promise<bigint> {
  let highest = 0n;
  for (const chunk of chunksByLength(names, (name) => name)) {
    const found = await highestIn(client, chunk, signal);
    if (found > highest) highest = found;
  }
  return highest;
}

async function highestIn(client: SearchClient, names: readonly string[], signal: AbortSignal): Promise<bigint> {
  const path = pathOf(names);
  const there = { ignore_unavailable: "true", allow_no_indices: "true" } as const;
  await client.askEveryShard({ method: "POST", path: `${path}/_refresh`, query: there }, "a refresh", signal);
  const order = `[{"${VERSION_FIELD}":{"order":"desc","unmapped_type":"long","missing":"_last"}}]`;
  const body = `{"size":1,"_source":false,"query":{"exists":{"field":"${VERSION_FIELD}"}},"sort":${order}}`;
  const look = { method: "POST", path: `${path}/_search`, query: { ...there, ...WHOLE_SEARCH } } as const;
  const answer = await client.askEveryShard({ ...look, body: Buffer.from(body) }, "looking for old documents", signal);
  // Parsed as text: JSON numbers would lose digits here.
  const sorted = /"sort":\[(\d+)\]/.exec(answer.body.toString("utf8"));
  return BigInt(sorted?.[1] ?? 0);
}
