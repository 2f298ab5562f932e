# Millrace on Node 24. docs/service.md says how it is run.
FROM node:24-slim AS build
WORKDIR /build
COPY . .
# The package as it is published, with its dependencies and its optional peers in the versions of the lock file, and what it is
# made of as CycloneDX.
# Behind a proxy with an authority of its own: docker build --secret id=ca,src=company.pem
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca; fi \
 && npm ci --ignore-scripts && npm run build && npm pack --ignore-scripts --pack-destination /tmp
WORKDIR /opt/millrace
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca; fi \
 && tar -xzf /tmp/millrace-*.tgz --strip-components=1 \
 && cp /build/package-lock.json . \
 && node -e "const all = require('./package.json'); Object.assign(all.dependencies, all.peerDependencies); fs.writeFileSync('package.json', JSON.stringify(all))" \
 && npm pkg delete devDependencies peerDependencies peerDependenciesMeta workspaces \
 && npm ci --omit=dev --workspaces=false --ignore-scripts \
 && rm package-lock.json \
 && npm sbom --sbom-format cyclonedx --sbom-type application > sbom.cdx.json

# The slim image has no authorities, and DuckDB trusts only those of this file: Node's own are put there.
FROM node:24-slim
COPY --from=build /opt/millrace /opt/millrace
RUN ln -s /opt/millrace/bin/millrace.js /usr/local/bin/millrace \
 && install -d -o node -g node /var/lib/millrace \
 && install -d /etc/ssl/certs \
 && node -e "fs.writeFileSync('/etc/ssl/certs/ca-certificates.crt', tls.rootCertificates.join('\n') + '\n')"
ENV NODE_ENV=production MILLRACE_CONFIG=/etc/millrace/millrace.yaml
USER node
WORKDIR /var/lib/millrace
VOLUME /var/lib/millrace
# The image's own loopback: the configuration's admin.listen must be 127.0.0.1:8642 (its default) or 0.0.0.0:8642.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8642/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Millrace itself is process 1: SIGTERM ends what is in flight, stores the positions and lets the lease go.
ENTRYPOINT ["node", "/opt/millrace/bin/millrace.js"]
CMD ["run"]
