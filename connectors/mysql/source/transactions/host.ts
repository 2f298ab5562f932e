/**
 * The server whose log was compared. Invariant 8: an address may lead the next connection to another server, but positions
 * in the log and rows of tables must come from the same one.
 */
import { systemClock } from "../../../../src/core/clock.ts";
import { withTimeout } from "../../../../src/core/with-timeout.ts";
import type { Session } from "../driver.ts";
import { aborted, sourceError } from "../errors.ts";

const ANSWER_MS = 30_000;

export interface HostName {
  /** MariaDB has no server_uuid before 12. */
  readonly uuid: string;
  readonly serverId: number;
}

export class Host {
  #expected: { readonly variable: string; readonly value: string } | undefined;
  readonly #onOther: () => void;

  /** `onOther`: a connection has ended at another server. */
  constructor(onOther: () => void) {
    this.#onOther = onOther;
  }

  /** From here on every connection must end there. */
  expect({ serverId, uuid }: HostName): void {
    const isNamed = uuid !== "";
    this.#expected = {
      variable: isNamed ? "server_uuid" : "server_id",
      value: isNamed ? uuid : String(serverId),
    };
  }

  /** Until `expect` is called again, connections may end anywhere. */
  forget(): void {
    this.#expected = undefined;
  }

  async check(session: Session, signal: AbortSignal): Promise<void> {
    const expected = this.#expected;
    if (expected === undefined) return;
    const doing = "asking which server it is";
    const late = (): never => {
      throw sourceError("MR2121", "retryable", `the source did not answer while ${doing}`);
    };
    const answer = session.query(`SELECT @@GLOBAL.${expected.variable}`);
    const limits = { clock: systemClock, signal, timeoutMs: ANSWER_MS, late, stopped: () => aborted(doing) };
    const [row] = await withTimeout(answer, limits);
    const found = row?.[0] ?? "";
    if (found === expected.value) return;
    this.#onOther();
    throw sourceError(
      "MR2130",
      "retryable",
      `a connection ended at the server with ${expected.variable} ${found}, and the log is read from ${expected.value}`,
    );
  }
}
