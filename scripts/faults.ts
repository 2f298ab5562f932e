/**
 * `npm run faults` runs the drills of test/fault/matrix and makes docs/faults.md of what they found: each fault, source and sink,
 * with the date and the commit. A source whose drill did not end equal is not on the page, and the command fails.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createVitest } from "vitest/node";
import * as z from "zod";

const ROOT = join(import.meta.dirname, "..");
const DRILLS = "test/fault/matrix";
const PAGE = "docs/faults.md";

const DRILL = z.object({
  source: z.object({ name: z.string(), port: z.string() }),
  sinks: z.array(z.object({ name: z.string(), port: z.string().nullable() })),
  breaks: z.array(z.object({ what: z.string(), on: z.string(), recoveryMs: z.number() })),
});
type Drill = z.output<typeof DRILL>;

const OF_DAEMON = [
  ["kill", "The daemon was killed"],
  ["stop", "Stopped in order"],
] as const;
const OF_CONNECTIONS = [
  ["cut", "connections are reset"],
  ["stall", "they stall for 10 s"],
  ["refuse", "they are refused for 5 s"],
  ["pause", "the sink is paused for 5 s"],
] as const;

if (import.meta.main) process.exitCode = await run();

async function run(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-faults-"));
  process.env["MILLRACE_TEST_FAULTS"] = folder;
  try {
    const vitest = await createVitest("test", { watch: false, run: true });
    await vitest.start([DRILLS]);
    const isGood = vitest.state.getFiles().every((file) => file.result?.state === "pass");
    await vitest.close();
    const drills = readdirSync(folder).map((file) => DRILL.parse(JSON.parse(readFileSync(join(folder, file), "utf8"))));
    const commit = execFileSync("git", ["rev-parse", "--short=12", "HEAD"], { cwd: ROOT, encoding: "utf8" }).trim();
    writeFileSync(join(ROOT, PAGE), faultPage(drills, { commit, at: new Date() }));
    process.stdout.write(`wrote ${PAGE}\n`);
    return isGood ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function faultPage(drills: readonly Drill[], run: { readonly commit: string; readonly at: Date }): string {
  const day = run.at.toISOString().slice(0, 10);
  const parts = drills.toSorted((a, b) => (a.source.name < b.source.name ? -1 : 1)).map(tableOf);
  return `# What was broken, and whether all was equal afterwards

Made by \`npm run faults\` on ${day} from commit ${run.commit}: [drills](drill.md) from each source to all of these sinks at once, while rows are written. After each fault the drill waited until every sink had what the source had; at its end every row of every sink was equal to the source's, for the drill and for [a comparison by other means](../test/fault/matrix). Figures are how often the fault was met and the longest recovery, on ${availableParallelism()} cores that also ran all servers. "—": the sink is no server.

${parts.join("\n")}`;
}

function tableOf({ source, sinks, breaks }: Drill): string {
  const columns = [{ name: "the source", port: source.port }, ...sinks];
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const table = [
    line(["", ...columns.map(({ name }) => name)]),
    line(["---", ...columns.map(() => "---")]),
    ...OF_CONNECTIONS.map(([what, words]) =>
      line([
        words,
        ...columns.map((column) => told(breaks.filter((one) => one.what === what && isOf(column, one.on)))),
      ]),
    ),
  ];
  const ofDaemon = OF_DAEMON.map(([what, words]) => `${words}: ${told(breaks.filter((one) => one.what === what))}.`);
  return `## From ${source.name}\n\n${ofDaemon.join(" ")}\n\n${table.join("\n")}\n`;
}

function isOf({ name, port }: Drill["sinks"][number], on: string): boolean {
  return on === name || (port !== null && on.endsWith(`:${port}`));
}

function told(met: Drill["breaks"]): string {
  const longest = Math.max(...met.map(({ recoveryMs }) => recoveryMs));
  return met.length === 0 ? "—" : `${met.length}×, ${(longest / 1_000).toFixed(1)} s`;
}
