/** One program of the benchmark `library`, alone in its process: reads the inserts of `orders` until it has `rows` of them. */
import { LogicalReplicationService, PgoutputPlugin } from "pg-logical-replication";
import type * as Library from "../src/library/millrace.ts";

/** As an application imports it: compiled. */
const LIBRARY = "../dist/millrace.js";

const [who = "", source = "", at = "", rows = "0"] = process.argv.slice(2);
const wanted = Number(rows);

const open: { done(): Promise<void> }[] = [];
let count = 0;
let sum = 0;
let begun: { readonly ms: number; readonly cpu: NodeJS.CpuUsage } | undefined;

/** The start is not in the figures: they begin with the first row. */
function take(id: unknown): void {
  begun ??= { ms: performance.now(), cpu: process.cpuUsage() };
  count++;
  sum += Number(id);
}

const programs: Readonly<Record<string, () => Promise<void>>> = {
  millrace: async () => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- compiled from that file
    const { follow } = (await import(LIBRARY)) as typeof Library;
    for await (const transaction of follow({ source, tables: ["public.orders"], state: at, snapshot: "none" })) {
      for (const change of transaction.changes) if (change.op === "c") take(change.after?.["id"]);
      // As docs/library.md says it: several transactions are stored at once.
      open.push(transaction);
      if (transaction.hasNext && count < wanted) continue;
      await Promise.all(open.splice(0).map((one) => one.done()));
      if (count >= wanted) return;
    }
  },
  "pg-logical-replication": async () => {
    const service = new LogicalReplicationService(
      { connectionString: source },
      { acknowledge: { auto: false, timeoutSeconds: 0 }, flowControl: { enabled: true } },
    );
    const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: [at] });
    await new Promise<void>((resolve, reject) => {
      service.on("error", reject);
      service.on("data", async (lsn, message) => {
        if (message.tag === "insert") take(message.new["id"]);
        if (message.tag !== "commit") return;
        await service.acknowledge(lsn);
        if (count >= wanted) resolve();
      });
      service.subscribe(plugin, at).catch(reject);
    });
    await service.stop();
  },
};

await programs[who]?.();
const seconds = (performance.now() - (begun?.ms ?? 0)) / 1000;
const { user, system } = process.cpuUsage(begun?.cpu);
const { maxRSS } = process.resourceUsage();
process.stdout.write(
  JSON.stringify({ count, sum, seconds, cpuSeconds: (user + system) / 1e6, memoryMiB: maxRSS / 1024 }),
);
process.exit(0);
