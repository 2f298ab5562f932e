import type { Scope } from "../model/schema.ts";

/**
 * Why the table can't have a target that is there; null: it can. `isShared`: whether tables with different scopes have it; null:
 * that is not known.
 */
export function otherSharing(
  target: string,
  isShared: boolean | null,
  { scope }: { readonly scope?: Scope | undefined },
): string | null {
  if (isShared === null || isShared === (scope !== undefined)) return null;
  return sharingText(target, isShared);
}

/** Why a table of the other kind can't have it. */
export function sharingText(target: string, isShared: boolean): string {
  return isShared
    ? `${target} is shared by tables that routes tell apart (\`add\`), and no route adds a column to this one`
    : `${target} is one table's alone, and the route of this one (\`add\`) would share it`;
}

export const SHARING_HINT =
  "Give the table another name by `into`, or the sink another `schema` or `prefix`. If nobody needs what is there, remove it while Millrace is stopped: it is made and filled again.";
