import { driftIn } from "../../core/comparison-verdict.ts";
import { oldestFirst } from "../../reconcile/proof/proof-status.ts";
import type { ProofRecord } from "../../core/contracts/state-store.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { readState } from "../state.ts";
import { tableText } from "../table.ts";

export function addProofs({ program, action }: CommandLine): void {
  const command = program.command("proofs").description("what comparisons have proven");
  command
    .command("list")
    .description("each table in each sink, the one whose proof is oldest first")
    .action(
      action("each", async (session) => {
        const proofs = oldestFirst(await readState(await session.place(), (state) => state.proofs.list()));
        session.print({ proofs }, described(proofs));
        return EXIT.done;
      }),
    );
}

function described(records: readonly ProofRecord[]): string {
  if (records.length === 0) return "nothing is proven: no comparison has run yet";
  const rows = records.map((one) => [
    one.table,
    one.sink,
    one.provenAt ?? `never, since ${one.since}`,
    one.position ?? "-",
    String(one.ranges),
    String(driftIn(one)),
  ]);
  return tableText(["table", "sink", "proven", "position", "ranges", "differing rows"], rows);
}
