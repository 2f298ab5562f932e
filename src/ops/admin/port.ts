import type { AuditEntry } from "../../core/audit/audit-store.ts";
import type { Order } from "../../core/audit/audited.ts";
import type { DaemonView } from "../dashboard/view.ts";
import type { ReconcileRequest, ReportView } from "../../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import type {
  FreshAnswer,
  FreshRequest,
  LetterChoice,
  SnapshotOrder,
  WaitAnswer,
} from "../../core/contracts/orders.ts";

/** What the admin interface can show and do. */
export interface AdminPort {
  readonly version: string;
  /** The run behind it ends or has ended: what fails from now on may succeed in the next one. */
  readonly isOver: () => boolean;
  readonly status: () => Promise<StatusDocument>;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** `sink` null: all; `tables` empty: the sinks as a whole. */
  readonly pause: (sink: string | null, tables: readonly string[]) => Promise<void>;
  readonly resume: (sink: string | null, tables: readonly string[]) => Promise<void>;
  readonly wait: (timeoutMs: number) => Promise<WaitAnswer>;
  readonly fresh: (request: FreshRequest, timeoutMs: number) => Promise<FreshAnswer>;
  readonly startSnapshot: (request: SnapshotOrder) => Promise<readonly string[]>;
  readonly snapshots: () => Promise<readonly object[]>;
  readonly cancelSnapshot: (id: number) => Promise<boolean>;
  /** Begins a comparison that reads again what differs, and returns its id; empty lists: all. */
  readonly repair: (sinks: readonly string[], tables: readonly string[]) => object;
  readonly replayLetters: (choice: LetterChoice, timeoutMs: number) => Promise<object>;
  /** How many were waiting. */
  readonly discardLetters: (choice: LetterChoice) => Promise<number>;
  /** Summaries of past comparisons, newest first; without keys. */
  readonly reports: () => Promise<readonly object[]>;
  /** One of them, table by table; without keys. Null: it is not kept. */
  readonly report: (id: string) => Promise<ReportView | null>;
  /** What the dashboard shows beside the status, its charts from `since` on; without keys and values. */
  readonly view: (since: string) => Promise<Omit<DaemonView, "role">>;
  /** Actions of operators, newest first. */
  readonly audit: (limit: number) => Promise<readonly AuditEntry[]>;
  /** Does the work of an order, and keeps the order and what it answered in the audit log. */
  readonly audited: <T extends object>(order: Order, work: () => Promise<T>) => Promise<T>;
  /** Removes secrets from a JSON document that leaves the machine. */
  readonly redact: (json: string) => string;
  /** Only on the Unix socket: its users may read the sink's file anyway. */
  readonly copy?: (sink: string, signal: AbortSignal) => Promise<string>;
  /** Only on the Unix socket: its result has keys, and values if they are asked for. */
  readonly reconcile?: (request: ReconcileRequest) => object;
  readonly reconciliation?: () => object;
  /** Only on the Unix socket: returns the id of a report of what is proven. */
  readonly reportProofs?: () => Promise<object>;
  readonly stopReconciliation?: (id: string) => boolean;
}
