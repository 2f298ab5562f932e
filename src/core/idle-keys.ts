/** Keys of a source or sink that would do nothing beside its others: they are refused, since somebody expects something of them. */
import type * as z from "zod";
import type { IdleKey } from "./contracts/connector.ts";

/** For `superRefine` of a definition. Yields undefined where nothing is wrong. */
export function refusing<Options>(idle: (options: Options) => Iterable<IdleKey | undefined>) {
  return (options: Options, issues: z.core.$RefinementCtx): void => {
    for (const found of idle(options)) {
      if (found === undefined) continue;
      const [key, message] = found;
      issues.addIssue({ code: "custom", path: key.split("."), message });
    }
  };
}
