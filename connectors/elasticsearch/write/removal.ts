/** Removes all documents of a table up to a version, for TRUNCATE and sweep. */
import * as z from "zod";
import { BulkBody } from "./bulk-body.ts";
import { sendBulk } from "./bulk.ts";
import { deleteLine, VERSION_FIELD } from "./document.ts";
import { searchError } from "../errors.ts";
import { formOf, pathOf, type SearchClient, WHOLE_SEARCH } from "../http.ts";
import type { SearchTable } from "../indices/tables.ts";

/** Below the engines' index.max_result_window. */
const PAGE = 5_000;

const HITS = z.object({ hits: z.object({ hits: z.array(z.object({ _id: z.string() })).default([]) }).prefault({}) });

const LOOKING = "looking for documents to remove";

/**
 * Durable documents may not be searchable yet, so each search follows a refresh; the next search does not find removed
 * ones. The version protects a document that was written again meanwhile.
 */
export async function removeUpTo(
  client: SearchClient,
  { alias, table }: SearchTable,
  version: bigint,
  signal: AbortSignal,
): Promise<void> {
  const body = new BulkBody(table.id);
  let before: string | undefined;
  for (;;) {
    await client.refresh(alias, table.id, signal);
    const ids = await idsUpTo(client, alias, table.id, version, signal);
    if (ids.length === 0) return;
    if (ids[0] === before) throw searchError("MR2027", "retryable", `documents of ${table.id} can't be removed`);
    before = ids[0];
    body.reset();
    for (const id of ids) {
      body.out.utf8(deleteLine(alias, id, version));
      body.add(undefined, 0);
    }
    const refused = await sendBulk(client, body, signal);
    if (refused.length > 0)
      throw searchError("MR2027", "retryable", `a removal of documents of ${table.id} was refused`);
  }
}

async function idsUpTo(
  client: SearchClient,
  alias: string,
  table: string,
  version: bigint,
  signal: AbortSignal,
): Promise<string[]> {
  const query = `{"range":{"${VERSION_FIELD}":{"lte":${version}}}}`;
  const body = Buffer.from(`{"size":${PAGE},"query":${query},"sort":["_doc"],"_source":false}`);
  const asked = { filter_path: "timed_out,_shards.failed,hits.hits._id", ...WHOLE_SEARCH };
  const request = { method: "POST", path: `${pathOf(alias)}/_search`, query: asked, body } as const;
  const answer = await client.askEveryShard(request, LOOKING, signal, table);
  return formOf(HITS, answer, LOOKING).hits.hits.map((hit) => hit._id);
}
