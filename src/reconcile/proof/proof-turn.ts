import type { ComparePort } from "../../core/contracts/comparing.ts";
import type { ProofLedger, ProofStore } from "../../core/contracts/state-store.ts";
import type { Findings } from "../rows/findings.ts";
import { type Ledger, ledgerOf, recordOf, withTable } from "./ledger.ts";

/**
 * One table in one sink, as it stood when its turn began. Invariant: read before anything is compared. What becomes void
 * from here on is not stored.
 */
export interface ProofTurn {
  readonly stored: ProofLedger;
  readonly ledger: Ledger;
  readonly step: number;
}

export function turnOf(stored: ProofLedger, port: ComparePort): ProofTurn {
  return { stored, ledger: ledgerOf(stored.content), step: port.batch(stored.sink) ?? 0 };
}

/** False: it became void meanwhile, or another comparison was stored. */
export async function storeLedger(proofs: ProofStore, { stored, step }: ProofTurn, ledger: Ledger): Promise<boolean> {
  return await proofs.save(stored, recordOf(stored, ledger), step, JSON.stringify(ledger));
}

/** Tables and sinks come and go. */
export async function knowPlaces(proofs: ProofStore, port: ComparePort): Promise<void> {
  const sinks = port.sinks.filter((sink) => port.isComparable(sink));
  await proofs.know(
    port.tables.flatMap((table) =>
      sinks.filter((sink) => port.takes(sink, table)).map((sink) => ({ table: table.id, sink })),
    ),
    [...port.suspended.keys()],
  );
}

/** Stores what a comparison of a whole table found that began at this time. */
export async function storeWhole(proofs: ProofStore, turn: ProofTurn, at: string, findings: Findings): Promise<void> {
  const { table, sink, voided } = turn.stored;
  // The continuous comparison may have been at this table when it began.
  const now = (await proofs.ofTable(table)).find((one) => one.sink === sink);
  if (now?.voided !== voided) return;
  const began = { at, position: findings.result().positions?.from ?? null };
  const { opening } = turn.stored;
  const { sourceRows, sinkRows } = findings;
  const looked = { ...leftOf(findings), sourceRows, sinkRows, began };
  await storeLedger(proofs, { ...turn, stored: { ...now, opening } }, withTable(ledgerOf(now.content), looked));
}

interface Left {
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  readonly repaired: number;
  /** Each other row is equal: none is undecided, or differs as a dead letter, which is no drift. */
  readonly isDecided: boolean;
}

/** What is left after repairs. With some unrepaired, which of them is not known: all count. */
export function leftOf(findings: Findings): Left {
  const { missing, extra, different, repaired, deadLetters } = findings.result();
  const isDecided = findings.counts.unsettled + deadLetters === 0;
  const isLeft = missing + extra + different > repaired;
  const counts = isLeft ? { missing, extra, different } : { missing: 0, extra: 0, different: 0 };
  return { ...counts, repaired, isDecided };
}
