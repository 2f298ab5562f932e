/** A command on all shares of a configuration: each has its daemon and its state. */
import { EXIT, type ExitCode, exitCodeOf } from "../exit-codes.ts";
import { failureOf } from "../failure.ts";
import type { Printed, Session } from "../session.ts";

/** What a command does on one share, and what all its results say together. */
interface ShareWork {
  readonly work: (session: Session) => Promise<ExitCode>;
  /** A line for people. */
  readonly summary?: (documents: readonly object[]) => string;
}

interface Result {
  readonly number: number;
  readonly exitCode: ExitCode;
  readonly printed: Printed | null;
  readonly error: unknown;
}

/** What one share says of a table, or of a report, that another share has. */
const NOT_HERE = new Set(["MR1110", "MR1114", "MR1404"]);
/** The first of these that a share ended with is the command's. */
const BY_WEIGHT: readonly ExitCode[] = [EXIT.failed, EXIT.wrong, EXIT.refused, EXIT.timedOut, EXIT.again, EXIT.drift];

/** Prints one document with those of the shares. */
export async function inEachShare(
  session: Session,
  { name, count }: { readonly name: string; readonly count: number },
  asked: ShareWork,
): Promise<ExitCode> {
  const numbers = Array.from({ length: count }, (_, i) => i + 1);
  const all = await Promise.all(numbers.map((number) => inShare(session, number, asked.work)));
  const failed = all.filter(({ error }) => error !== null);
  const here = all.filter(({ error }) => error === null || !NOT_HERE.has(failureOf(error).code));
  // What is wrong everywhere is said once.
  const [first] = failed;
  if (first !== undefined && (here.length === 0 || isOneFailure(failed, all.length))) throw first.error;
  const documents = here.map(({ number, printed, error }) =>
    error === null ? { share: number, ...printed?.document } : { share: number, error: failureOf(error) },
  );
  const texts = here.map((result) => `share ${result.number} of ${count}:\n${indented(textOf(result))}`);
  const head = `${name}: ${asked.summary?.(documents) ?? `${count} shares`}`;
  session.print({ name, shares: documents }, [head, ...texts].join("\n\n"));
  return BY_WEIGHT.find((code) => here.some(({ exitCode }) => exitCode === code)) ?? EXIT.done;
}

async function inShare(session: Session, number: number, work: ShareWork["work"]): Promise<Result> {
  let last: Printed | null = null;
  try {
    const exitCode = await work(session.ofShare(number, (printed) => (last = printed)));
    return { number, exitCode, printed: last, error: null };
  } catch (error) {
    return { number, exitCode: exitCodeOf(error), printed: null, error };
  }
}

function isOneFailure(failed: readonly Result[], count: number): boolean {
  return failed.length === count && new Set(failed.map(({ error }) => failureOf(error).message)).size === 1;
}

function textOf({ printed, error }: Result): string {
  if (error === null) return printed?.text.trimEnd() ?? "";
  const { code, message, hint } = failureOf(error);
  return [`error ${code}: ${message}`, ...(hint === null ? [] : [`  ${hint}`])].join("\n");
}

function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}
