/** Two sinks of one daemon whose addresses lead to one cluster: the configuration alone does not show it. */
import { checkpointIndex } from "./checkpoint.ts";
import { searchError } from "./errors.ts";
import { expectOk, formOf, pathOf, type SearchClient } from "./http.ts";
import * as z from "zod";

type Writer = Readonly<Record<"daemon" | "name" | "prefix", string>>;

const UUID = z.record(z.string(), z.object({ settings: z.object({ index: z.object({ uuid: z.string() }) }) }));

const LOOKING = "looking at the progress index";

/** Sinks by the uuid of the index of their progress: a cluster has one for each prefix. */
type Writers = Map<string, Writer>;

/** Those of this process that are open. */
export const OPENED: Writers = new Map();

/** Throws if another sink of the daemon has the indices of this prefix. While there is no index of progress, nothing is known. */
export async function expectAlone(
  client: SearchClient,
  writers: Writers,
  sink: Writer,
  signal: AbortSignal,
): Promise<void> {
  const path = `${pathOf(checkpointIndex(sink.prefix))}/_settings`;
  const answer = await client.request({ method: "GET", path, query: { filter_path: "*.settings.index.uuid" } }, signal);
  if (answer.status === 404) return;
  expectOk(answer, LOOKING);
  for (const { settings } of Object.values(formOf(UUID, answer, LOOKING))) {
    const { uuid } = settings.index;
    const other = writers.get(uuid);
    if (other?.daemon === sink.daemon && other.name !== sink.name)
      throw searchError(
        "MR3121",
        "fatal",
        `sink ${other.name} writes the same indices: both urls lead to one cluster`,
        {
          hint: `Remove one of the sinks, or give sink ${sink.name} a \`prefix\` of its own.`,
        },
      );
    writers.set(uuid, sink);
  }
}

export function leave(sink: Writer): void {
  for (const [uuid, writer] of OPENED) if (writer === sink) OPENED.delete(uuid);
}
