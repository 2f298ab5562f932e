/** The downloads that a set of servers still needs here, for announcing them before the start. */
import { definitionOf } from "./definitions.ts";
import type { Availability, Download, ServiceName } from "./service.ts";

export interface Plan {
  readonly services: readonly { readonly name: ServiceName; readonly availability: Availability }[];
  /** Each download once, even if several servers need it. */
  readonly downloads: readonly Download[];
}

export async function plan(names: readonly ServiceName[]): Promise<Plan> {
  const services = await Promise.all(
    names.map(async (name) => ({ name, availability: await definitionOf(name).locate() })),
  );
  const downloads = new Map<string, Download>();
  for (const { availability } of services) {
    if (availability.kind !== "native") continue;
    for (const download of availability.missing) downloads.set(download.what, download);
  }
  return { services, downloads: [...downloads.values()] };
}

/** One line, such as `native 18.4.0, 23 MB to fetch from npm`. */
export function describe(availability: Availability): string {
  switch (availability.kind) {
    case "environment":
      return `the server named by ${availability.variable}`;
    case "container":
      return `container ${availability.image}`;
    case "native": {
      const fetched = availability.missing.map(({ megabytes, from }) => `${megabytes} MB to fetch from ${from}`);
      return [`native ${availability.version}`, ...fetched].join(", ");
    }
    case "unavailable":
      return `unavailable: ${availability.reason}`;
    default: {
      const unknown: never = availability;
      return unknown;
    }
  }
}
