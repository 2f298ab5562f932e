/** How the rules change each captured table's columns, and which of them decided it: `status --tables`. */
import type { Place } from "../../config/load.ts";
import { type ComputedLineage, type Lineage, namesOfTable, type TableVersion } from "../../core/model/schema.ts";
import { columnRuling, type Decider, mergedRule, optionDeciders } from "../../rules/merged-rule.ts";
import { readState } from "../state.ts";
import { tableText } from "../table.ts";

export interface TableLineage {
  readonly table: string;
  readonly columns: readonly ColumnLineage[];
  /** Columns that functions make. */
  readonly computed: readonly ComputedLineage[];
  /** True if a `where` leaves rows out. */
  readonly filtered: boolean;
  /** By an option's name, the glob whose value is in force. */
  readonly decidedBy: Readonly<Record<string, string>>;
}

/** By the configuration as it is now; null: nothing changes the column, or the daemon still has another configuration. */
interface ColumnLineage extends Lineage {
  readonly hiddenBy: DecidingGlobs | null;
  readonly renamedBy: DecidingGlobs | null;
}

interface DecidingGlobs {
  readonly table: string;
  /** Null: `only` decided. */
  readonly column: string | null;
}

/** From the state store: the newest registered version of each table. */
export async function storedLineage(place: Place): Promise<readonly TableLineage[]> {
  const tables = await readState(place, ({ schemas }) => schemas.list());
  return tables.map((table) => lineageOf(table, place.rules)).toSorted((a, b) => (a.table < b.table ? -1 : 1));
}

function lineageOf({ id, columns, ruled }: TableVersion, rules: Place["rules"]): TableLineage {
  const asItIs = columns.map(({ name }): Lineage => ({ source: name, target: name, mask: null }));
  const merged = mergedRule(rules, namesOfTable(id));
  return {
    table: id,
    columns: (ruled?.lineage ?? asItIs).map((column): ColumnLineage => {
      const ruling = merged === null ? null : columnRuling(merged, column.source);
      const isInForce =
        ruling !== null &&
        ruling.mask === column.mask &&
        column.target === (ruling.drop ? null : (ruling.rename ?? column.source));
      if (!isInForce) return { ...column, hiddenBy: null, renamedBy: null };
      return { ...column, hiddenBy: globsOf(ruling.hiddenBy), renamedBy: globsOf(ruling.renamedBy) };
    }),
    computed: ruled?.computed ?? [],
    filtered: ruled?.filtered ?? false,
    decidedBy: merged === null ? {} : optionDeciders(merged),
  };
}

function globsOf(decider: Decider | null): DecidingGlobs | null {
  return decider === null ? null : { table: decider.table.pattern, column: decider.column?.pattern ?? null };
}

export function lineageText(tables: readonly TableLineage[]): string {
  const rows = tables.flatMap(({ table, columns, computed, filtered, decidedBy }) => {
    const lines = [
      ...columns.map(({ source, target, mask, hiddenBy, renamedBy }) => {
        const deciders = new Set(
          [hiddenBy, renamedBy].flatMap((by) => (by === null ? [] : [`${by.table}: ${by.column ?? "only"}`])),
        );
        return [source, target ?? "(dropped)", mask ?? "", [...deciders].join(", ")];
      }),
      ...computed.map(({ target, from, function: of }) => [`${of}(${from.join(", ")})`, target, "", ""]),
      ...Object.entries(decidedBy).map(([option, pattern]) => ["", "", `(${option})`, pattern]),
    ];
    // A table that never fitted its rule has no columns here.
    const name = `${table}${filtered ? " (filtered)" : ""}`;
    return lines.map((line, i) => [i === 0 ? name : "", ...line]);
  });
  return tableText(["table", "source column", "target column", "mask", "decided by"], rows);
}
