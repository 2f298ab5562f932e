import { expect, test } from "vitest";
import { failureOf } from "../../src/postgres/failure.ts";
import { ServerError } from "../../src/postgres/frames.ts";
import { lackingLocks, sinkError } from "../../connectors/postgres/sink/errors.ts";
import { classify } from "../../connectors/postgres/source/errors.ts";
import { classify as ofState } from "../../src/state/postgres/errors.ts";

test("an internal error is told by the server's function that failed, and never by its sentence, which may be of rows", () => {
  const error = new ServerError("XX000", "unexpected value 4711 in row of shop", "RelidByRelfilenumber");
  expect(classify(error, "streaming changes").message).toBe(
    "the server failed while streaming changes (SQLSTATE XX000), in its RelidByRelfilenumber",
  );
});

test("an error of the server's system is told with its sentence: it speaks of files", () => {
  const error = new ServerError("58030", 'could not read file "pg_wal/000000010000000000000002"', "XLogFileRead");
  expect(classify(error, "streaming changes")).toMatchObject({
    code: "MR2027",
    kind: "retryable",
    message: `the server failed while streaming changes (SQLSTATE 58030): could not read file "pg_wal/000000010000000000000002"`,
  });
});

test.each(["max_locks_per_transaction", "max_pred_locks_per_transaction"])(
  "a server whose table of locks is full is told with the setting that the server names: %s",
  (setting) => {
    const hint = `Sie müssen möglicherweise »${setting}« erhöhen.`;
    const error = Object.assign(new ServerError("53200", "Shared Memory aufgebraucht", "SetupLockInTable"), { hint });
    const told = { kind: "retryable", hint: expect.stringContaining(`ALTER SYSTEM SET ${setting} =`) };
    expect(classify(error, "reading public.shop")).toMatchObject({ code: "MR2006", ...told });
    expect(ofState(error)).toMatchObject({ code: "MR1215", ...told });
    // Fewer tables at once need less of the one.
    const reason = setting === "max_locks_per_transaction" ? "tables" : undefined;
    expect(sinkError(error, "writing")).toMatchObject({ code: "MR2006", ...told, reason });
  },
);

test.each([
  [{ tableCount: 250, lockCount: 1755 }, "and 250 tables at once take up to 1755 locks", 108],
  [{ tableCount: 1, lockCount: 20 }, "and the table alone takes up to 20 locks", 65],
  [null, "(max_connections and max_prepared_transactions). If it lasts", 128],
])(
  "a target without room for locks is told with its present value, and what the tables need: %j",
  (step, needs, value) => {
    const { hint } = lackingLocks(sinkError(new Error("full"), "writing"), step, { perSession: 64, sessionsMax: 40 });
    expect(hint).toContain("max_locks_per_transaction of the target is 64, for each of 40 sessions");
    expect(hint).toContain(needs);
    expect(hint).toContain(`ALTER SYSTEM SET max_locks_per_transaction = ${value},`);
  },
);

/** What was met while connecting, then in a session: source, sink, state. */
test.each([
  [
    "28P01",
    "password",
    "login",
    "MR2002 blocked, MR2002 blocked, MR1216 blocked",
    "MR2002 blocked, MR2002 blocked, MR1216 blocked",
  ],
  [
    "28000",
    "no encryption",
    "tls",
    "MR2003 blocked, MR2003 blocked, MR1216 blocked",
    "MR2002 blocked, MR2002 blocked, MR1216 blocked",
  ],
  [
    "CERT_HAS_EXPIRED",
    "",
    "tls",
    "MR2003 blocked, MR2003 blocked, MR1216 blocked",
    "MR2003 blocked, MR2001 retryable, MR1215 retryable",
  ],
  [
    "ECONNRESET",
    "",
    "unreachable",
    "MR2001 retryable, MR2001 retryable, MR1215 retryable",
    "MR2001 retryable, MR2001 retryable, MR1215 retryable",
  ],
  [
    "08P01",
    "unsupported startup parameter",
    "pooler",
    "MR2004 fatal, MR2027 fatal, MR1215 retryable",
    "MR2004 fatal, MR2001 retryable, MR1215 retryable",
  ],
  [
    "42501",
    "permission denied",
    "privilege",
    "MR2008 blocked, MR2008 blocked, MR1216 blocked",
    "MR2008 blocked, MR2008 blocked, MR1216 blocked",
  ],
  [
    "53300",
    "too many",
    "connections",
    "MR2006 retryable, MR2006 retryable, MR1215 retryable",
    "MR2006 retryable, MR2006 retryable, MR1215 retryable",
  ],
  [
    "53100",
    "no space",
    "disk",
    "MR3213 blocked, MR3213 blocked, MR1215 retryable",
    "MR3213 blocked, MR3213 blocked, MR1215 retryable",
  ],
  [
    "57P03",
    "starting up",
    "ending",
    "MR2006 retryable, MR2006 retryable, MR1215 retryable",
    "MR2006 retryable, MR2006 retryable, MR1215 retryable",
  ],
  [
    "22P02",
    "invalid",
    "login",
    "MR2002 blocked, MR2002 blocked, MR1216 blocked",
    "MR2027 fatal, MR3111 poison, MR1216 fatal",
  ],
  [
    "42P01",
    "missing",
    "login",
    "MR2002 blocked, MR2002 blocked, MR1216 blocked",
    "MR2025 retryable, MR3110 reopen, MR1216 fatal",
  ],
  [
    "55000",
    "not accepting connections",
    "login",
    "MR2002 blocked, MR2002 blocked, MR1216 blocked",
    "MR2027 fatal, MR2027 fatal, MR1216 fatal",
  ],
  [
    "58P01",
    "a file of the database is away",
    "system",
    "MR2027 retryable, MR2006 retryable, MR1215 retryable",
    "MR2027 retryable, MR2006 retryable, MR1215 retryable",
  ],
  [
    "58P01",
    "requested WAL segment 0000000100000000000000A7 has already been removed",
    "system",
    "MR2027 retryable, MR2006 retryable, MR1215 retryable",
    "MR2010 fatal, MR2006 retryable, MR1215 retryable",
  ],
  [
    "XX000",
    "as poolers of clouds say it",
    "internal",
    "MR2027 retryable, MR2006 retryable, MR1215 retryable",
    "MR2027 retryable, MR2006 retryable, MR1215 retryable",
  ],
])("%s (%s) is %s: its meaning has one number for source and sink", (code, text, reason, connecting, later) => {
  const error = Object.assign(new Error(text), { code });
  const failure = failureOf(error, "db:5432");
  expect(failure.reason).toBe(reason);
  const numbers = (what: unknown) =>
    [classify(what, "reading"), sinkError(what, "writing"), ofState(what)].map((e) => `${e.code} ${e.kind}`).join(", ");
  expect([numbers(failure), numbers(error)]).toEqual([connecting, later]);
});

test.each([
  ["CheckMyDatabase", /ALTER DATABASE … CONNECTION LIMIT/],
  ["InitializeSessionUserId", /ALTER ROLE … CONNECTION LIMIT/],
  ["InitProcess", /max_connections/],
])("of the limits of connections, that of %s is named", (routine, limit) => {
  const failure = failureOf(Object.assign(new Error("too many"), { code: "53300", routine }), "db:5432");
  for (const { code, hint } of [classify(failure, "reading"), sinkError(failure, "writing"), ofState(failure)])
    expect({ code, hint }).toEqual({
      code: expect.stringMatching(/MR2006|MR1215/),
      hint: expect.stringMatching(limit),
    });
});
