/** A native subscription that fills one database from another. Both are on one server, so that the slot is made beforehand. */
import type { FreshDatabase } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";

/** `tables`: as a publication lists them. The subscription goes with the result; what it has filled stays. */
export async function subscribed(
  source: FreshDatabase,
  target: FreshDatabase,
  tables: string,
): Promise<AsyncDisposable> {
  const name = `sub_${source.name}`;
  await source.query(`create publication p for table ${tables}`);
  await source.query(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`);
  await target.query(
    `create subscription ${name} connection '${source.url}' publication p with (create_slot = false, slot_name = '${name}', copy_data = false)`,
  );
  return {
    [Symbol.asyncDispose]: async () => {
      await target.query(`alter subscription ${name} disable`);
      await target.query(`alter subscription ${name} set (slot_name = none)`);
      await target.query(`drop subscription ${name}`);
      await source.query("drop publication p");
      // Its sender ends some time after the subscription.
      await eventually(() => source.query(`select pg_drop_replication_slot('${name}')`));
    },
  };
}
