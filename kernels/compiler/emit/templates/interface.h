/* @TITLE@ */
#ifndef @GUARD@_H
#define @GUARD@_H

#ifdef __cplusplus
extern "C" {
#endif

/* A network with its weights, its memory and its threads. */
typedef struct @PREFIX@_network @PREFIX@_network;

/* Read the weights. `threads`: 1 to @MAX_THREADS@. Returns 0, or
@ERRORS@ */
int @PREFIX@_load(const char *weights_path, int threads, @PREFIX@_network **network);

/* Run `batch` inferences one after the other: `input` holds batch * @INPUT@ floats, `output` batch * @OUTPUT@ floats.
   Calls with one network wait for each other. Returns 0, or 7. */
int @PREFIX@_run(@PREFIX@_network *network, const float *input, float *output, int batch);

/* End the threads and give the memory back. */
void @PREFIX@_free(@PREFIX@_network *network);

/* What was compiled, as JSON: version, instruction set, shapes. */
const char *@PREFIX@_version(void);

#ifdef __cplusplus
}
#endif
#endif
