# Builds with `docker build .` and with `buildah bud --platform linux/amd64 .`: a static binary on a base without a shell.
# For another architecture the compiler cross-compiles, so nothing is emulated: docker buildx build --platform linux/arm64 .
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
# Without defaults: one would hide what the builder says. Empty, they are the builder's own platform.
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY transform transform
COPY bridge bridge
COPY cmd cmd
# The tag leaves out a page of gRPC that nobody serves: its html/template keeps the linker from dropping what is not called.
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
	CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -buildvcs=false -trimpath -tags grpcnotrace \
	-ldflags "-s -w -X main.version=$VERSION" -o /serbridge ./cmd/serbridge

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=dev
LABEL org.opencontainers.image.title=serbridge \
	org.opencontainers.image.description="Brings every detection from Kafka topics into Stellar Cyber, once" \
	org.opencontainers.image.licenses=Apache-2.0 \
	org.opencontainers.image.version=$VERSION
COPY --from=build /serbridge /serbridge
# By number: with a name, Kubernetes cannot tell that it is not root.
USER 65532:65532
EXPOSE 9090
ENTRYPOINT ["/serbridge"]
CMD ["run"]
