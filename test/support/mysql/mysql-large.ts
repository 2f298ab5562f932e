/** Tables that MySQL and MariaDB believe to be large: their statistics say so, and stay as they are. */

const PAGES = 8192;

/** For CREATE TABLE. */
export const KEPT_STATISTICS = "stats_persistent = 1 stats_auto_recalc = 0";

/** For a table of the session's database; the server looks at stored statistics when a table gets its name. */
export function believeLarge(table: string): readonly string[] {
  return [
    `analyze table ${table}`,
    `update mysql.innodb_table_stats set clustered_index_size = ${PAGES} where database_name = database() and table_name = '${table}'`,
    `rename table ${table} to ${table}_meanwhile`,
    `rename table ${table}_meanwhile to ${table}`,
  ];
}
