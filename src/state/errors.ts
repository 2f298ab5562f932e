import type { Clock } from "../core/clock.ts";
import type { Lease } from "../core/contracts/state-store.ts";
import { MillraceError, type ErrorCode, type ErrorKind, type ErrorPages, type ErrorReason } from "../core/errors.ts";

export const pages: ErrorPages = {
  MR1201: {
    title: "The state store's URL can't be read",
    cause: "`state` in millrace.yaml names a store that Millrace does not know. The daemon does not start.",
    remedy:
      "Write `state: sqlite:PATH` or `state: postgres://…`, or leave the key out: the default is `.millrace/<name>.db` beside the config file.",
  },
  MR1202: {
    title: "The state file can't be opened",
    cause:
      "The file or its folder can't be created, read or written by this user. Without its state Millrace can't prove that nothing was lost, so it does not start.",
    remedy:
      "Check that the folder exists or can be created, that the file belongs to the user who runs Millrace, and that the file system is not mounted read-only. Network file systems without proper locks are not supported.",
  },
  MR1203: {
    title: "There is no state yet",
    cause:
      "A command asked for what the daemon remembers, but the state file does not exist: the daemon never ran with this config.",
    remedy:
      "Start `millrace run`, or check that `name` and `state` in millrace.yaml (or `-c`) are those of the daemon.",
  },
  MR1204: {
    title: "The state file is damaged",
    cause: "SQLite finds the file corrupt. Nothing is read from it, because a wrong position would be a silent gap.",
    remedy:
      "Restore the file from a backup: sinks store their own checkpoints, so an older copy is fine as long as the source still keeps the log from that time. Without a backup move the file away: the next start begins with a first copy.",
  },
  MR1205: {
    title: "The file is not a Millrace state file",
    cause: "`state` names an existing file that another program wrote. Millrace does not touch it.",
    remedy: "Name another path in `state`.",
  },
  MR1206: {
    title: "The state was written by a newer Millrace",
    cause:
      "The state file has migrations that this version does not know. An older program could misread it, so it stops.",
    remedy: "Run the version that wrote it, or a newer one.",
  },
  MR1207: {
    title: "The state was written by an older Millrace",
    cause: "A command that only reads found a state file of an older version; only the daemon upgrades it.",
    remedy: "Start `millrace run` once with this version, then repeat the command.",
  },
  MR1208: {
    title: "The state file is locked",
    cause:
      "Another process held SQLite's write lock for longer than Millrace waits. A running daemon retries until it succeeds. Meanwhile it stores nothing, and acknowledges nothing to the source. `status` shows it.",
    remedy: "Look for a backup program or a shell that has the file open, and close it.",
  },
  MR1209: {
    title: "The state can't be written",
    cause:
      "The disk is full or answers with an error. A running daemon retries until it succeeds. Meanwhile it stores nothing, and acknowledges nothing to the source. `status` and `/readyz` show it. A start waits for it too.",
    remedy: "Make room on the disk, or look at the system's log for disk errors. The daemon continues by itself.",
  },
  MR1210: {
    title: "The lease was taken over by another daemon",
    cause:
      "This process was stopped or stalled for longer than its lease, and another daemon of the same name took over. Everything it would have written is refused, and it stops.",
    remedy: "Do nothing if the other daemon is the right one. Else stop it and start this one again.",
  },
  MR1211: {
    title: "The state belongs to another name",
    cause:
      "The state file was created by a config with another `name`. A shared state would mix the positions of two sources.",
    remedy: "Give each name its own file in `state`, or leave the key out.",
  },
  MR1213: {
    title: "Another daemon of this name is running",
    cause: "One daemon at a time works on a source. The message names the one that holds the lease.",
    remedy: "Use the running daemon, or stop it first. If its holder is gone, a lease expires within 15 seconds.",
  },
  MR1214: {
    title: "The rows of a state can't be loaded",
    cause: "An export, or a state on Postgres, holds a relation or a column that this version does not know.",
    remedy: "Use the version that wrote it. If it was edited by hand, use an export that was not.",
  },
  MR1215: {
    title: "The state's Postgres server can't be reached",
    cause:
      "The server of `state: postgres://…` does not answer. A running daemon retries while its lease lasts (15 " +
      "seconds). Then it stops its work, because another daemon may take over, and waits until the server answers: `/readyz` " +
      "and the status over HTTP say so. A start waits in the same way. Nothing is acknowledged to the source meanwhile.",
    remedy:
      "Bring the server back, or correct the URL and start the daemon again. Nothing is lost: the daemon continues from the " +
      "state and the sinks.",
  },
  MR1216: {
    title: "The state's Postgres server refuses",
    cause:
      "The login was refused, the database does not exist, or the role may not create or write the schema `millrace`. The " +
      "message quotes the server. The daemon tries again until the server takes it.",
    remedy:
      "The role needs CREATE on the database for the first start, or a schema `millrace` that it owns: " +
      "`CREATE SCHEMA millrace AUTHORIZATION ROLE`.",
  },
  MR1217: {
    title: "TLS with the state's Postgres server failed",
    cause:
      "The server does not speak TLS, requires it although the URL of `state` forbids it, or its certificate fails the " +
      "check of `sslmode`.",
    remedy: "Set `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the URL as for psql.",
  },
  MR1218: {
    title: "The URL of the state's Postgres server can't be used",
    cause:
      "It is not of the form `postgres://user:password@host:port/database`, has a parameter that Millrace does not know, or " +
      "names a PEM file that can't be used; or it leads to a pooler that gives one session of the server to several clients. Parameters are those of psql; paths are relative to millrace.yaml.",
    remedy: "Correct what the message names. Behind a pooler use `pool_mode = session`, or name the server itself.",
  },
  MR1212: {
    title: "The state store failed",
    cause:
      "SQLite reported an error that Millrace does not expect. The daemon stops, because it must not run without a durable state.",
    remedy: "Start the daemon again; if the error comes back, report it with the number in the message.",
  },
};

/** Another daemon with this name runs, so this one must not start. */
export function leaseHeld(lease: Lease, clock: Pick<Clock, "now">): MillraceError {
  const seconds = Math.max(0, Math.ceil((lease.expiresAtMs - clock.now()) / 1000));
  return stateError(
    "MR1213",
    `another daemon holds the lease: ${lease.holder} (for ${seconds} s, unless it renews it)`,
    { reason: "held" },
  );
}

/** Another daemon runs in place of this one. */
export const LEASE_LOST = "MR1210";

export function leaseLost(): MillraceError {
  return stateError(LEASE_LOST, "the lease was taken over by another daemon; this one stops");
}

export interface StateErrorParts {
  readonly kind?: ErrorKind;
  readonly hint?: string;
  readonly cause?: unknown;
  readonly reason?: ErrorReason;
}

export function stateError(code: ErrorCode, message: string, parts: StateErrorParts = {}): MillraceError {
  const hint = parts.hint ?? pages[code]?.remedy;
  return new MillraceError({
    code,
    kind: parts.kind ?? "fatal",
    message,
    hint,
    cause: parts.cause,
    reason: parts.reason,
  });
}
