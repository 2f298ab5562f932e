/** The form of every refusal of the admin interface. */
export function failure(code: string, message: string, hint: string | null = null) {
  return { error: { code, message, hint } };
}
