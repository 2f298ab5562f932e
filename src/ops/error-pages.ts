/** What each number of an error means: docs/errors.md, for `millrace explain` and the dashboard. */
import { readFileSync } from "node:fs";
import { installed } from "../core/installation.ts";
import type { ErrorView } from "./dashboard/view.ts";

export interface NumberedPage extends ErrorView {
  /** Where it shows itself. */
  readonly see: readonly string[];
}

/** The format that scripts/generate.ts writes. */
const PAGE = /^### (MR\d{4})\n\n\*\*(.+)\*\*\n\n(.+)\n\n\*When:\* (.+)\n\n\*Seen:\* (.+)$/gm;
const PLACE = /^- \*\*(.+)\*\*: (.+)$/gm;

export function errorPages(): readonly NumberedPage[] {
  const document = readFileSync(installed("docs/errors.md"), "utf8");
  const places = new Map([...document.matchAll(PLACE)].map(([, place = "", text = ""]) => [place, text]));
  return [...document.matchAll(PAGE)].map(([, code = "", title = "", remedy = "", cause = "", seen = ""]) => {
    const see = seen.split(", ").map((named) => `${named}: ${places.get(named.replace(/ \(.*/, "")) ?? ""}`);
    return { code, title, remedy, cause, see };
  });
}
