/**
 * Who has a table's rows in a target that tables share. The target's note can't say it: with thousands of tables in a target it
 * would be written again for each. So each table has an entry of its own, in a table beside the sink's checkpoints.
 *
 *     "shared"."orders" {"tenant":"acme"}   eu/warehouse   us/warehouse
 *     scope                                 owner          former: its rows may still be there
 */
import type { CheckedTable } from "../../src/core/contracts/connector.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import { joined, type MillraceError, type Raise } from "../../src/core/errors.ts";
import { type Scope, tableId, type TableVersion } from "../../src/core/model/schema.ts";
import { partTakenBy } from "../../src/core/targets/taken.ts";
import { type Ownership, successorOf } from "./following.ts";

/** By scope. */
export type ScopeOwners = ReadonlyMap<string, Ownership>;

/** What a sink is to have from now on. */
export interface ScopeClaim {
  readonly scope: string;
  readonly table: TableVersion;
  /** From whom it may be taken; null: from nobody. */
  readonly from: string | null;
}

/** `key`: of the table's target. Null: the target is the table's alone. */
export function scopeKey(key: string, { scope }: { readonly scope?: Scope | undefined }): string | null {
  if (scope === undefined) return null;
  const inOrder = Object.entries(scope).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return `${key} ${JSON.stringify(Object.fromEntries(inOrder))}`;
}

/** Of one statement. */
const SCOPES_MAX = 1_000;

/** The columns of the table. */
export const SCOPE_COLUMNS = "scope text NOT NULL PRIMARY KEY, owner text NOT NULL, former text";

/** The statements on the table, in an engine that a name and its spelling of texts describe. */
export class ScopeTable {
  readonly #name: string;
  readonly #text: (text: string) => string;

  constructor(name: string, text: (text: string) => string) {
    this.#name = name;
    this.#text = text;
  }

  /** Who has these, as far as anybody has. */
  async find(scopes: readonly string[], rows: (sql: string) => Promise<Rows>): Promise<ScopeOwners> {
    const found: ScopeOwners[] = [];
    for (const sql of this.#select(scopes)) found.push(ownersIn(await rows(sql)));
    return new Map(found.flatMap((some) => [...some]));
  }

  /** The same where the engine answers at once. */
  findNow(scopes: readonly string[], rows: (sql: string) => Rows): ScopeOwners {
    return new Map(this.#select(scopes).flatMap((sql) => [...ownersIn(rows(sql))]));
  }

  #select(scopes: readonly string[]): readonly string[] {
    return groupsOf(scopes, SCOPES_MAX).map(
      (some) => `SELECT scope, owner, former FROM ${this.#name} WHERE scope IN (${some.map(this.#text).join(", ")})`,
    );
  }

  of(owner: string): string {
    return `SELECT scope FROM ${this.#name} WHERE owner = ${this.#text(owner)}`;
  }

  /** What is there of these is replaced. */
  put(owners: ScopeOwners): readonly string[] {
    return groupsOf([...owners], SCOPES_MAX).flatMap((some) => {
      const values = some.map(
        ([scope, { owner, former }]) =>
          `(${this.#text(scope)}, ${this.#text(owner!)}, ${former === undefined ? "NULL" : this.#text(former)})`,
      );
      const scopes = some.map(([scope]) => this.#text(scope)).join(", ");
      return [
        `DELETE FROM ${this.#name} WHERE scope IN (${scopes})`,
        `INSERT INTO ${this.#name} (scope, owner, former) VALUES ${values.join(", ")}`,
      ];
    });
  }

  /** It has no former owner any more. */
  settle(scope: string): string {
    return `UPDATE ${this.#name} SET former = NULL WHERE scope = ${this.#text(scope)}`;
  }

  /** Those of the owner alone. */
  remove(owner: string, scopes: readonly string[]): readonly string[] {
    return groupsOf(scopes, SCOPES_MAX).map(
      (some) =>
        `DELETE FROM ${this.#name} WHERE owner = ${this.#text(owner)} AND scope IN (${some.map(this.#text).join(", ")})`,
    );
  }

  removeAll(owner: string): string {
    return `DELETE FROM ${this.#name} WHERE owner = ${this.#text(owner)}`;
  }
}

type Rows = readonly (readonly unknown[])[];

function ownersIn(rows: Rows): ScopeOwners {
  return new Map(
    rows.map(([scope, owner, former]) => [
      String(scope),
      { owner: String(owner), ...(typeof former === "string" && former !== "" ? { former } : {}) },
    ]),
  );
}

/** Throws for those that another one has, from whom they may not be taken; `there`: inside the transaction that writes. */
export function claimed(raise: Raise, owner: string, claims: readonly ScopeClaim[], there: ScopeOwners): ScopeOwners {
  expectScopes(raise, owner, claims, there);
  const taken = claims.filter(({ scope }) => there.get(scope)?.owner !== owner);
  return new Map(
    taken.map(({ scope }) => {
      const former = there.get(scope)?.owner;
      return [scope, { owner, ...(former === undefined ? {} : { former }) }];
    }),
  );
}

export function expectScopes(raise: Raise, owner: string, claims: readonly ScopeClaim[], there: ScopeOwners): void {
  const taken = claims.flatMap(({ scope, table, from }): readonly MillraceError[] => {
    const other = successorOf(owner, there.get(scope) ?? null);
    return other === null || other === from ? [] : [partTakenBy(raise, table.id, other)];
  });
  const [first, ...further] = taken;
  if (first !== undefined) throw joined([first, ...further]);
}

/** A table's part of a shared target, as a check sees it. */
export interface CheckedPart {
  readonly scope: string;
  readonly table: CheckedTable;
}

/** `key`: of a table's target. */
export function checkedParts(
  tables: readonly CheckedTable[],
  key: (table: CheckedTable) => string,
): readonly CheckedPart[] {
  return tables.flatMap((table) => {
    const scope = table.scope === undefined ? null : scopeKey(key(table), table);
    return scope === null ? [] : [{ scope, table }];
  });
}

/** What a start would refuse because another one has it. `there`: who has these. */
export function refusedParts(
  raise: Raise,
  owner: string,
  parts: readonly CheckedPart[],
  there: ScopeOwners,
): readonly MillraceError[] {
  return parts.flatMap(({ scope, table }) => {
    const other = successorOf(owner, there.get(scope) ?? null);
    return other === null ? [] : [partTakenBy(raise, table.id ?? tableId(table.schema, table.table), other)];
  });
}
