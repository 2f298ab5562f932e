/**
 * A process that writes to a state file without end and says on stdout, one line per write, what has resolved. The crash
 * test kills it and compares. Arguments: the file.
 */
import { writeSync } from "node:fs";
import { openState } from "../../../src/state/open.ts";
import { complete } from "../daemon/complete.ts";

const state = await openState(`sqlite:${process.argv[2] ?? ""}`);
const { lease } = await state.lease.acquire("writer", 60_000);
await state.source.announce(1);
for (let i = 1; ; i++) {
  const position = { epoch: 1, commit: BigInt(i), index: 0 };
  await state.sinks.setCheckpoint("a", position, complete({ "public.t": String(i) }));
  say("written", i);
  await state.source.acknowledge(position, new Map([["b", position]]));
  say("acknowledged", i);
  await state.snapshots.addKeys("a", "public.t", [[String(i)]]);
  say("key", i);
  await state.deadLetters.add({
    sink: "a",
    tableId: "public.t",
    key: [String(i)],
    op: "u",
    position,
    code: "MR1",
    reason: "r".repeat(300),
    envelope: "{}",
  });
  say("letter", i);
  await state.lease.renew(lease.number, 60_000);
}

/** Synchronous, so that a line never says more than what resolved and a kill loses none that was due. */
function say(what: string, i: number): void {
  writeSync(1, `${what} ${i}\n`);
}
