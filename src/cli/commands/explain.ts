import { readFileSync } from "node:fs";
import { installed } from "../../core/installation.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";

interface Page {
  readonly code: string;
  readonly title: string;
  readonly remedy: string;
  readonly cause: string;
  /** Where it shows itself. */
  readonly see: readonly string[];
}

/** The format that scripts/generate.ts writes. */
const PAGE = /^### (MR\d{4})\n\n\*\*(.+)\*\*\n\n(.+)\n\n\*When:\* (.+)\n\n\*Seen:\* (.+)$/gm;
const PLACE = /^- \*\*(.+)\*\*: (.+)$/gm;

export function addExplain({ program, action }: CommandLine): void {
  program
    .command("explain <code>")
    .description("what an error's number means, and what to do")
    .action(
      action("none", async (session, _options, [code = ""]) => {
        const page = pageOf(code);
        session.print(
          page,
          [
            `${page.code}: ${page.title}`,
            `What to do: ${page.remedy}`,
            `When: ${page.cause}`,
            ["How to see it:", ...page.see.map((place) => `- ${place}`)].join("\n"),
          ].join("\n\n"),
        );
        return EXIT.done;
      }),
    );
}

/** `given` in upper or lower case, with or without `MR`. */
export function pageOf(given: string): Page {
  const wanted = given.toUpperCase().replace(/^(?=\d{4}$)/, "MR");
  const page = pages().find(({ code }) => code === wanted);
  if (page !== undefined) return page;
  const hint = "The number of an error is MR and four digits, as in `millrace explain MR1203`.";
  throw cliError("MR1110", `no error has the number ${JSON.stringify(given)}`, { hint });
}

export function pages(): readonly Page[] {
  const document = readFileSync(installed("docs/errors.md"), "utf8");
  const places = new Map([...document.matchAll(PLACE)].map(([, place = "", text = ""]) => [place, text]));
  return [...document.matchAll(PAGE)].map(([, code = "", title = "", remedy = "", cause = "", seen = ""]) => {
    const see = seen.split(", ").map((named) => `${named}: ${places.get(named.replace(/ \(.*/, "")) ?? ""}`);
    return { code, title, remedy, cause, see };
  });
}
