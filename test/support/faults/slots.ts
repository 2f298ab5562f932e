/** The slots of a server under test: used up by somebody else, given back, and counted. */
import type { FreshDatabase } from "../run/fresh-database.ts";

/** Takes every slot that is left. */
export async function takeSlots(source: FreshDatabase): Promise<void> {
  await source.query(`do $$ declare free int; begin
    select current_setting('max_replication_slots')::int - count(*) into free from pg_replication_slots;
    for i in 1 .. free loop perform pg_create_physical_replication_slot('taken_' || replace(gen_random_uuid()::text, '-', '')); end loop;
  end $$`);
}

export async function giveSlotsBack(source: FreshDatabase): Promise<void> {
  await source.query(
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'taken%' and not active",
  );
}

/** Names of the temporary slots of this database: of sinks that catch up now, or left behind. */
export async function temporarySlots(source: FreshDatabase): Promise<readonly string[]> {
  const { rows } = await source.query<{ slot_name: string }>(
    "select slot_name from pg_replication_slots where database = current_database() and temporary order by 1",
  );
  return rows.map(({ slot_name }) => slot_name);
}

/** Ends the sessions that read these slots of the database. */
export async function endReaders(source: FreshDatabase, which: "first" | "second"): Promise<void> {
  await source.query(
    `select pg_terminate_backend(active_pid) from pg_replication_slots
     where database = current_database() and active_pid is not null and temporary = $1`,
    [which === "second"],
  );
}
