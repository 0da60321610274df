# syntax=docker/dockerfile:1
# Two stages: the first has the tools that installing needs, the second only what runs.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/moorage \
 && /opt/moorage/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
 && /opt/moorage/bin/pip install --no-cache-dir --no-deps /tmp/wheel/*.whl

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Moorage" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends gpg \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65532 -g 65532 -m 0700 /data
COPY --from=build /opt/moorage /opt/moorage
# No home, no shell, no write access but /data and a tmpfs on /tmp:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -v moorage:/data -p 8080:8080 moorage
USER 65532:65532
ENV PATH=/opt/moorage/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MOORAGE_DATA_DIR=/data \
    MOORAGE_HOST=0.0.0.0
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["moorage"]
CMD ["serve"]
