/** Finds the highest version of documents where a sink writes: old documents may be left there. */
import { expectEveryShard } from "./indices/ddl.ts";
import { chunksByLength } from "./indices/presence.ts";
import { VERSION_FIELD } from "./write/document.ts";
import { pathOf, type SearchClient, WHOLE_SEARCH } from "./http.ts";

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
