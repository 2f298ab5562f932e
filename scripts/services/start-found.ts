import { borrowed } from "./borrowed.ts";
import { ServiceUnavailableError, type Availability, type RunningService, type ServiceName } from "./service.ts";

/** The ways to start a service that is not there yet. */
export interface StartWays {
  /** Of an address that names no port. */
  readonly defaultPort: number;
  container(): Promise<RunningService>;
  native(): Promise<RunningService>;
}

/** Starts a service in the way in which it was found. */
export async function startFound(name: ServiceName, found: Availability, ways: StartWays): Promise<RunningService> {
  switch (found.kind) {
    case "environment":
      return borrowed(name, found.variable, found.url, ways.defaultPort);
    case "container":
      return ways.container();
    case "native":
      return ways.native();
    case "unavailable":
      throw new ServiceUnavailableError(name, found.reason);
    default: {
      const unknown: never = found;
      return unknown;
    }
  }
}
