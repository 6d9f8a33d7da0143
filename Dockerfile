# The image of the daemon: docs/image.md. Any base with Python 3.11 or later does, for both stages the same one.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ARG PYTHON=python3
# Where packages come from, when it isn't pip's own default. Arguments of this stage leave no trace in the image; what holds a password
# comes as a secret, `--secret id=pip.conf,src=…`.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_NO_INDEX=
ARG SOURCE_DATE_EPOCH=1577836800
WORKDIR /build
COPY . .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf "${PYTHON}" -B packaging/image_assemble.py /opt/rotator

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
ARG SOURCE=unknown
ARG LICENSES=Apache-2.0
LABEL org.opencontainers.image.title="rotator" \
      org.opencontainers.image.description="Keeps a company's Millimetric API keys fresh, narrow and where they belong" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="${LICENSES}"
COPY --from=build /opt/rotator /opt/rotator
USER 0:0
# No shell: the base of this stage needs none. Below /opt/rotator, as engines remove the folder that they mount on, and nothing above it.
RUN --mount=type=bind,from=build,source=/build/packaging,target=/opt/rotator/build \
    ["/opt/rotator/bin/python", "-I", "-B", "/opt/rotator/build/image_seal.py"]
ENV PATH="/opt/rotator/bin:${PATH}" \
    HOME=/var/lib/rotator \
    PYTHONDONTWRITEBYTECODE=1 \
    ROTATOR_STATE_DIR=/var/lib/rotator
USER 65532:65532
WORKDIR /
VOLUME ["/var/lib/rotator"]
EXPOSE 8700
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["/opt/rotator/bin/rotator", "health"]
ENTRYPOINT ["/opt/rotator/bin/rotator"]
CMD ["run"]
