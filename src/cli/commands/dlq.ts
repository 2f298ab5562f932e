import Table from "cli-table3";
import type { DeadLetter } from "../../core/contracts/state-store.ts";
import { serializePosition } from "../../core/model/position.ts";
import { countOf } from "../arguments.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { readState } from "../read-state.ts";

export function addDlq({ program, action }: CommandLine): void {
  const dlq = program.command("dlq").description("dead letters: rows that a sink refused");
  dlq
    .command("list")
    .description("the letters, newest last")
    .option("--sink <name>", "of this sink only")
    .option("--all", "superseded ones too")
    .action(
      action(async (session, options) => {
        const sink = typeof options["sink"] === "string" ? { sink: options["sink"] } : {};
        const state = options["all"] === true ? {} : ({ state: "waiting" } as const);
        const letters = await readState(await session.config(), ({ deadLetters }) =>
          deadLetters.list({ ...sink, ...state }),
        );
        session.print({ letters: letters.map(summary) }, describeAll(letters));
        return EXIT.done;
      }),
    );
  dlq
    .command("show <id>")
    .description("one letter with its envelope")
    .action(
      action(async (session, _options, [id]) => {
        const number = countOf("<id>", id);
        const letter = await readState(await session.config(), ({ deadLetters }) => deadLetters.get(number));
        if (letter === null) throw cliError("MR1115", `there is no dead letter ${id}`);
        const envelope: unknown = JSON.parse(letter.envelope);
        const text = [
          ...Object.entries(summary(letter)).map(([key, value]) => `${key}: ${String(value)}`),
          letter.envelope,
        ];
        session.print({ ...summary(letter), envelope }, text.join("\n"));
        return EXIT.done;
      }),
    );
}

function summary({ id, sink, tableId, key, op, position, code, reason, createdAt, state }: DeadLetter) {
  return {
    id,
    sink,
    table: tableId,
    key: key.join(":"),
    op,
    position: serializePosition(position),
    code,
    reason,
    createdAt,
    state,
  };
}

function describeAll(letters: readonly DeadLetter[]): string {
  if (letters.length === 0) return "none";
  const table = new Table({
    head: ["id", "sink", "table", "key", "op", "why", "state", "since"],
    style: { head: [], border: [], compact: true },
  });
  for (const { id, sink, tableId, key, op, code, reason, state, createdAt } of letters) {
    table.push([id, sink, tableId, key.join(":"), op, `${code} ${reason}`, state, createdAt]);
  }
  return table.toString();
}
