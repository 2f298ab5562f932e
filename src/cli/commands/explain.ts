import { errorPages, type NumberedPage } from "../../ops/error-pages.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";

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
export function pageOf(given: string): NumberedPage {
  const wanted = given.toUpperCase().replace(/^(?=\d{4}$)/, "MR");
  const page = errorPages().find(({ code }) => code === wanted);
  if (page !== undefined) return page;
  const hint = "The number of an error is MR and four digits, as in `millrace explain MR1203`.";
  throw cliError("MR1110", `no error has the number ${JSON.stringify(given)}`, { hint });
}
