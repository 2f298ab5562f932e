import type { AuditEntry, AuditFacts } from "../../core/audit/audit-store.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { readState } from "../state.ts";
import { tableText } from "../table.ts";

const SHOWN = "100";

export function addAudit({ program, action }: CommandLine): void {
  program
    .command("audit")
    .description("what operators did")
    .command("list")
    .description("their actions, newest first: when, who, what, before, after")
    .option("--limit <count>", "the newest so many", SHOWN)
    .action(
      action("each", async (session, options) => {
        const limit = options.count("--limit");
        const entries = await readState(await session.place(), ({ audit }) => audit.list(limit));
        session.print({ entries }, describe(entries));
        return EXIT.done;
      }),
    );
}

function describe(entries: readonly AuditEntry[]): string {
  const rows = entries.map(({ id, at, who, via, action, subject, before, after, error, endedAt }) => {
    const end = error === null ? (endedAt === null ? "not ended" : factsOf(after)) : `failed: ${error}`;
    return [id, at, who, via, action, factsOf(subject), factsOf(before), end];
  });
  return tableText(["id", "at", "who", "via", "action", "to", "before", "after"], rows, "none");
}

/** One fact on each line. */
function factsOf(facts: AuditFacts | null): string {
  return Object.entries(facts ?? {})
    .map(([name, value]) => `${name}: ${textOf(value)}`)
    .join("\n");
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "all" : value.map(textOf).join(", ");
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([name, part]) => `${name} ${textOf(part)}`)
    .join(", ");
}
