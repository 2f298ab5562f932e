/** Looks at the versions of documents that no batch of this life has written: those of an earlier one, or of other hands. */
import * as z from "zod";
import { expectEveryShard, refresh } from "./indices/ddl.ts";
import { VERSION_FIELD } from "./write/document.ts";
import { parsed, pathOf, type SearchClient, WHOLE_SEARCH } from "./http.ts";
import type { IndexIdentity } from "./indices/tables.ts";
import { chunksByLength } from "./indices/presence.ts";

const PAGE = 5_000;
const KEPT_FOR = "1m";
const SCROLL = "/_search/scroll";

// The engine's `_version` is read as a double. Versions that rounding hides are a few bytes of log above `version`, and
// lower than that of any row that is read from then on.
const HITS = z.object({ hits: z.object({ hits: z.array(z.object({ _version: z.number().optional() })) }) });
const PAGE_OF = HITS.extend({ _scroll_id: z.string() });
const LOOKING = "looking for documents that are not ours";

/** When an operator has a sink filled again because somebody changed it by hand: whether a document has a version above `version` (the engine's or ours), or lacks our version. */
export async function holdsForeign(
  client: SearchClient,
  { index }: IndexIdentity,
  version: bigint,
  signal: AbortSignal,
): Promise<boolean> {
  await refresh(client, index, undefined, signal);
  const ours = `{"range":{"${VERSION_FIELD}":{"gt":${version}}}}`;
  const none = `{"bool":{"must_not":{"exists":{"field":"${VERSION_FIELD}"}}}}`;
  const query = `{"bool":{"should":[${ours},${none}]}}`;
  const look = { method: "POST", path: `${pathOf(index)}/_search`, query: WHOLE_SEARCH } as const;
  const answer = await client.request({ ...look, body: Buffer.from(`{"size":1,"query":${query}}`) }, signal);
  expectEveryShard(answer, LOOKING);
  return HITS.parse(parsed(answer.body)).hits.hits.length > 0 || hasVersionAbove(client, index, version, signal);
}

/** The engine's own version can't be searched for. */
async function hasVersionAbove(
  client: SearchClient,
  index: string,
  version: bigint,
  signal: AbortSignal,
): Promise<boolean> {
  const body = `{"size":${PAGE},"version":true,"_source":false,"sort":["_doc"]}`;
  const path = `${pathOf(index)}/_search`;
  let found = await page(client, path, { ...WHOLE_SEARCH, scroll: KEPT_FOR }, Buffer.from(body), signal);
  try {
    while (found.count > 0 && found.highest <= Number(version)) {
      found = await page(client, SCROLL, {}, { scroll: KEPT_FOR, scroll_id: found.scroll }, signal);
    }
    return found.count > 0;
  } finally {
    await client.request({ method: "DELETE", path: SCROLL, body: { scroll_id: found.scroll } }, signal);
  }
}

interface Page {
  readonly count: number;
  readonly highest: number;
  readonly scroll: string;
}

async function page(
  client: SearchClient,
  path: string,
  query: Readonly<Record<string, string>>,
  body: Buffer | object,
  signal: AbortSignal,
): Promise<Page> {
  const answer = await client.request({ method: "POST", path, query, body }, signal);
  expectEveryShard(answer, LOOKING);
  const { _scroll_id: scroll, hits } = PAGE_OF.parse(parsed(answer.body));
  const highest = hits.hits.reduce((most, { _version: own = 0 }) => Math.max(most, own), 0);
  return { count: hits.hits.length, highest, scroll };
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
  expectEveryShard(
    await client.request({ method: "POST", path: `${path}/_refresh`, query: there }, signal),
    "a refresh",
  );
  const order = `[{"${VERSION_FIELD}":{"order":"desc","unmapped_type":"long","missing":"_last"}}]`;
  const body = `{"size":1,"_source":false,"query":{"exists":{"field":"${VERSION_FIELD}"}},"sort":${order}}`;
  const query = { ...there, ...WHOLE_SEARCH };
  const answer = await client.request(
    { method: "POST", path: `${path}/_search`, query, body: Buffer.from(body) },
    signal,
  );
  expectEveryShard(answer, "looking for old documents");
  // Parsed as text: JSON numbers would lose digits here.
  const sorted = /"sort":\[(\d+)\]/.exec(answer.body.toString("utf8"));
  return BigInt(sorted?.[1] ?? 0);
}
