# The image: Debian's Python and the locked packages, no compiler and no pip. `make image` builds it.
#
# A release names its base by digest:
#   make image BASE_IMAGE=docker.io/library/debian:bookworm-slim@sha256:…
# Any Debian or Ubuntu that has Python 3.11 or newer will do.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

# What runs: Python, and the programs that Moorage starts: gpg for signatures, git and ssh for modules
# from git, PostgreSQL's clients for backups. pg_dump must not be older than the server.
FROM ${BASE_IMAGE} AS runtime
# No program of the image may give its caller more rights than the caller has.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates git gpg openssh-client postgresql-client python3 tzdata \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && echo 'moorage:x:65532:65532::/data:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'moorage:x:65532:' >> /etc/group \
 && install -d -o 65532 -g 65532 -m 0700 /data

# What is needed to install, and stays behind.
FROM runtime AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv
WORKDIR /src
COPY requirements.lock requirements-build.lock requirements-sbom.lock ./
RUN python3 -m venv --without-pip /opt/moorage \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip --python /opt/moorage/bin/python install \
      --no-cache-dir --no-deps --require-hashes -r requirements.lock \
 && /opt/build/bin/pip install \
      --no-cache-dir --no-deps --require-hashes -r requirements-build.lock -r requirements-sbom.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
 && /opt/build/bin/pip --python /opt/moorage/bin/python install \
      --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl \
 && /opt/build/bin/python -W ignore -m cyclonedx_py requirements requirements.lock \
      --pyproject pyproject.toml --output-reproducible -o /tmp/sbom.cdx.json

FROM runtime
COPY --from=build /src/LICENSE /tmp/sbom.cdx.json /usr/share/doc/moorage/
COPY --from=build /opt/moorage /opt/moorage
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Moorage" \
      org.opencontainers.image.description="A private Go toolchain mirror and module proxy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The Moorage authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# No shell to log in with, and no write access but to /data and a tmpfs on /tmp:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -v moorage:/data -p 127.0.0.1:8080:8080 moorage
USER 65532:65532
ENV PATH=/opt/moorage/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    MOORAGE_DATA_DIR=/data \
    MOORAGE_HOST=0.0.0.0
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["moorage", "health"]
ENTRYPOINT ["moorage"]
CMD ["serve"]
