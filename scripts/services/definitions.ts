/** All servers by name. */
import { chromium } from "./servers/chromium.ts";
import { clickhouse } from "./servers/clickhouse.ts";
import { elasticsearch, elasticsearch9 } from "./servers/search/elasticsearch.ts";
import { kafka } from "./servers/kafka.ts";
import { mariadb } from "./servers/mysql/mariadb.ts";
import { mysql } from "./servers/mysql/mysql.ts";
import { opensearch, opensearch3 } from "./servers/search/opensearch.ts";
import { postgres } from "./servers/postgres/postgres.ts";
import { registry } from "./servers/registry.ts";
import { prometheus } from "./servers/prometheus.ts";
import { redis, redis60, redis8, valkey } from "./servers/redis.ts";
import { s3 } from "./servers/s3.ts";
import type { ServiceDefinition, ServiceName } from "./service.ts";

const definitions: Readonly<Record<ServiceName, ServiceDefinition>> = {
  postgres,
  mysql,
  mariadb,
  redis,
  redis60,
  redis8,
  valkey,
  elasticsearch,
  elasticsearch9,
  opensearch,
  opensearch3,
  kafka,
  clickhouse,
  registry,
  chromium,
  prometheus,
  s3,
};

export const serviceNames: readonly ServiceName[] = Object.values(definitions).map(({ name }) => name);

export function definitionOf(name: ServiceName): ServiceDefinition {
  return definitions[name];
}
