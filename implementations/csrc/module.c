/* module.c: the Python module implementations._bptt_c over the kernel. Limited API of CPython 3.11, no NumPy headers.

       call(function, arrays, (T, B, D, H, K), (activation, truncation, k1, k2), instructions="best", threads=1)
       outputs(function) -> ((name, shape), ...), a shape as in signatures.h
       work(function, (T, B, D, H, K), itemsize) -> bytes of work memory that a call uses
       instructions() -> names of the instruction sets that can run here, the best one last

   arrays is a dict; entries that the function does not name are ignored. Everything the kernel relies on is checked
   before it runs: presence, contiguity, format, alignment, length, writability, no overlap with an output. An entry
   `work` lends work memory, bytes of which nothing is kept; without it a call allocates its own. The GIL is released
   while the kernel computes. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "signatures.h"

typedef struct {
    Py_buffer views[BPTT_MAX_ARRAYS]; /* of the arrays that Python lends; obj is NULL for work memory */
    void *pointers[BPTT_MAX_ARRAYS];  /* what the kernel gets */
    const bptt_signature *signature;
    size_t count;
    Py_buffer lent; /* work memory from Python, if obj is not NULL; */
    char *own;      /* else our own */
    char real; /* 'd' or 'f', 0 until the first real array was seen */
} bptt_call_frame;

static void release(bptt_call_frame *frame) {
    for (size_t i = 0; i < frame->count; i++) {
        if (frame->signature->arrays[i].role != BPTT_WORK) PyBuffer_Release(&frame->views[i]);
    }
    if (frame->lent.obj) PyBuffer_Release(&frame->lent);
    PyMem_Free(frame->own);
}

/* The format of a buffer in native byte order, or 0 if it is none that the kernel takes. */
static char format_of(const Py_buffer *view) {
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=') format++;
    if (format[0] == '\0' || format[1] != '\0') return 0;
    if (*format == 'd' && view->itemsize == (Py_ssize_t)sizeof(double)) return 'd';
    if (*format == 'f' && view->itemsize == (Py_ssize_t)sizeof(float)) return 'f';
    if ((*format == 'l' || *format == 'q') && view->itemsize == (Py_ssize_t)sizeof(int64_t)) return 'q';
    return 0;
}

/* The bytes of an array, or -1 with ValueError if they do not fit. */
static Py_ssize_t bytes_of(const bptt_signature *signature, const bptt_array *array, const bptt_setting *setting,
                           size_t itemsize) {
    const size_t entries = bptt_entries(array, setting);
    if (entries > (size_t)PY_SSIZE_T_MAX / itemsize) {
        PyErr_Format(PyExc_ValueError, "%s: %s is too large for this machine", signature->name, array->name);
        return -1;
    }
    return (Py_ssize_t)(entries * itemsize);
}

/* Checks an open buffer against the signature; 0, or -1 with ValueError. */
static int check_view(bptt_call_frame *frame, const bptt_array *array, const Py_buffer *view,
                      const bptt_setting *setting) {
    const char *function = frame->signature->name;
    const char format = format_of(view);
    if (!PyBuffer_IsContiguous(view, 'C')) {
        PyErr_Format(PyExc_ValueError, "%s: %s is not C-contiguous", function, array->name);
        return -1;
    }
    if (array->role == BPTT_OUT && view->readonly) {
        PyErr_Format(PyExc_ValueError, "%s: %s is an output but read-only", function, array->name);
        return -1;
    }
    if (array->type == BPTT_INT64 ? format != 'q' : format != 'd' && format != 'f') {
        PyErr_Format(PyExc_ValueError, "%s: %s has format '%s'; want native %s", function, array->name,
                     view->format ? view->format : "B", array->type == BPTT_INT64 ? "int64" : "float64 or float32");
        return -1;
    }
    if (array->type == BPTT_REAL && frame->real && format != frame->real) {
        PyErr_Format(PyExc_ValueError, "%s: %s mixes float64 and float32", function, array->name);
        return -1;
    }
    if (array->type == BPTT_REAL) frame->real = format;
    const Py_ssize_t want = bytes_of(frame->signature, array, setting, (size_t)view->itemsize);
    if (want < 0) return -1;
    if (view->len != want) {
        PyErr_Format(PyExc_ValueError, "%s: %s holds %zd bytes; want %zd, its shape is %s", function, array->name,
                     view->len, want, array->shape);
        return -1;
    }
    if ((uintptr_t)view->buf % (uintptr_t)view->itemsize != 0) {
        PyErr_Format(PyExc_ValueError, "%s: %s is not aligned", function, array->name);
        return -1;
    }
    return 0;
}

/* Opens a buffer; 0, or -1 with TypeError for an object that has none and ValueError for one that is indirect. */
static int open_view(bptt_call_frame *frame, const bptt_array *array, Py_buffer *view, PyObject *object) {
    Py_INCREF(object); /* an exporter written in Python may take it out of the dict */
    const int failed = PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT);
    Py_DECREF(object);
    if (failed && PyErr_ExceptionMatches(PyExc_BufferError)) {
        PyErr_Format(PyExc_ValueError, "%s: %s has no strided buffer", frame->signature->name, array->name);
    }
    return failed;
}

/* Opens array i of the frame; 0, or -1 with an exception and nothing left open. */
static int open_array(bptt_call_frame *frame, size_t i, PyObject *arrays, const bptt_setting *setting) {
    const bptt_array *array = &frame->signature->arrays[i];
    if (array->role == BPTT_WORK) return 0; /* open_work finds it a place */
    PyObject *object = PyDict_GetItemString(arrays, array->name); /* borrowed */
    if (!object) {
        PyErr_Format(PyExc_ValueError, "%s: no array %s was given", frame->signature->name, array->name);
        return -1;
    }
    if (open_view(frame, array, &frame->views[i], object) < 0) return -1;
    if (check_view(frame, array, &frame->views[i], setting) < 0) {
        PyBuffer_Release(&frame->views[i]);
        return -1;
    }
    frame->pointers[i] = frame->views[i].buf;
    return 0;
}

enum { LINE = 64 }; /* bytes of a cache line, at whose start each work array begins */

/* The bytes of all work arrays of a function, room to align the first one included; -1 with ValueError. */
static Py_ssize_t work_bytes(const bptt_signature *signature, const bptt_setting *setting, size_t real) {
    Py_ssize_t total = LINE;
    for (const bptt_array *array = signature->arrays; array->name; array++) {
        if (array->role != BPTT_WORK) continue;
        const Py_ssize_t bytes = bytes_of(signature, array, setting, array->type == BPTT_BYTE ? 1 : real);
        if (bytes < 0) return -1;
        if (bytes > PY_SSIZE_T_MAX - LINE - total) {
            PyErr_Format(PyExc_ValueError, "%s: its work memory is too large for this machine", signature->name);
            return -1;
        }
        total += (bytes + LINE - 1) / LINE * LINE;
    }
    return total;
}

/* Finds the work arrays their places, in memory that Python lends or in our own; 0, or -1 with an exception. */
static int open_work(bptt_call_frame *frame, PyObject *arrays, const bptt_setting *setting) {
    static const bptt_array LENT = {"work", BPTT_WORK, BPTT_BYTE, ""};
    const char *function = frame->signature->name;
    const size_t real = frame->real == 'd' ? sizeof(double) : sizeof(float);
    const Py_ssize_t want = work_bytes(frame->signature, setting, real);
    if (want < 0) return -1;
    PyObject *object = PyDict_GetItemString(arrays, LENT.name); /* borrowed */
    char *memory;
    if (object) {
        if (open_view(frame, &LENT, &frame->lent, object) < 0) return -1;
        if (frame->lent.readonly || !PyBuffer_IsContiguous(&frame->lent, 'C') || frame->lent.len < want) {
            PyErr_Format(PyExc_ValueError, "%s: work is read-only, not C-contiguous, or shorter than %zd bytes", function,
                         want);
            return -1;
        }
        memory = frame->lent.buf;
    } else {
        memory = frame->own = PyMem_Malloc((size_t)want);
        if (!memory) {
            PyErr_Format(PyExc_MemoryError, "%s: no memory for its work, %zd bytes", function, want);
            return -1;
        }
    }
    memory += (LINE - (uintptr_t)memory % LINE) % LINE;
    for (size_t i = 0; i < frame->count; i++) {
        const bptt_array *array = &frame->signature->arrays[i];
        if (array->role != BPTT_WORK) continue;
        const size_t bytes = bptt_entries(array, setting) * (array->type == BPTT_BYTE ? 1 : real);
        frame->pointers[i] = memory;
        memory += (bytes + LINE - 1) / LINE * LINE;
    }
    return 0;
}

static int meet(const Py_buffer *a, const Py_buffer *b) {
    const uintptr_t start = (uintptr_t)a->buf, other = (uintptr_t)b->buf;
    return start < other + (uintptr_t)b->len && other < start + (uintptr_t)a->len;
}

/* No output shares memory with another array, nor any array with work memory; 0, or -1 with ValueError. */
static int check_overlap(const bptt_call_frame *frame) {
    const bptt_array *arrays = frame->signature->arrays;
    for (size_t i = 0; i < frame->count; i++) {
        if (arrays[i].role == BPTT_WORK) continue;
        const char *other = frame->lent.obj && meet(&frame->views[i], &frame->lent) ? "work" : NULL;
        for (size_t j = 0; arrays[i].role == BPTT_OUT && j < frame->count; j++) {
            if (j != i && arrays[j].role != BPTT_WORK && meet(&frame->views[i], &frame->views[j])) {
                other = arrays[j].name;
            }
        }
        if (other) {
            PyErr_Format(PyExc_ValueError, "%s: %s shares memory with %s", frame->signature->name, arrays[i].name, other);
            return -1;
        }
    }
    return 0;
}

static int find_function(const char *name) {
    for (int function = 0; function < BPTT_FUNCTIONS; function++) {
        if (strcmp(bptt_signature_of(function)->name, name) == 0) return function;
    }
    PyErr_Format(PyExc_ValueError, "function '%s' is not known", name);
    return -1;
}

static const char *const INSTRUCTIONS[BPTT_INSTRUCTIONS] = {
    [BPTT_BEST] = "best", [BPTT_PLAIN] = "plain", [BPTT_AVX2] = "avx2", [BPTT_AVX512] = "avx512"};

static int find_instructions(const char *name) {
    for (int i = 0; i < BPTT_INSTRUCTIONS; i++) {
        if (strcmp(INSTRUCTIONS[i], name) == 0) return i;
    }
    PyErr_Format(PyExc_ValueError, "instruction set '%s' is not known", name);
    return -1;
}

static PyObject *finish(int status, const char *name) {
    switch (status) {
    case BPTT_OK:
        Py_RETURN_NONE;
    case BPTT_BAD_LENGTHS:
        return PyErr_Format(PyExc_ValueError, "%s: a length lies outside 0..T", name);
    case BPTT_BAD_OPTION:
        return PyErr_Format(PyExc_ValueError, "%s: want an activation and a truncation of this cell, k1 >= 1, "
                                              "k2 >= k1", name);
    case BPTT_BAD_INSTRUCTIONS:
        return PyErr_Format(PyExc_ValueError, "%s: this processor or this build has no such instruction set", name);
    default:
        return PyErr_Format(PyExc_SystemError, "%s: status %d", name, status);
    }
}

static PyObject *call(PyObject *module, PyObject *args) {
    (void)module;
    const char *name, *set = "best";
    PyObject *arrays;
    Py_ssize_t size[5];
    int activation, truncation;
    int threads = 1;
    long long k1, k2;
    if (!PyArg_ParseTuple(args, "sO!(nnnnn)(iiLL)|si:call", &name, &PyDict_Type, &arrays, &size[0], &size[1], &size[2],
                          &size[3], &size[4], &activation, &truncation, &k1, &k2, &set, &threads)) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return NULL;
        PyErr_SetString(PyExc_ValueError, "call: a size or an option does not fit its C type");
        return NULL;
    }
    for (int i = 0; i < 5; i++) {
        if (size[i] >= 1) continue;
        return PyErr_Format(PyExc_ValueError, "%s: size %c is %zd; want >= 1", name, "TBDHK"[i], size[i]);
    }
    const int function = find_function(name), instructions = find_instructions(set);
    if (function < 0 || instructions < 0) return NULL;
    const bptt_setting setting = {.T = (size_t)size[0], .B = (size_t)size[1], .D = (size_t)size[2],
                                  .H = (size_t)size[3], .K = (size_t)size[4], .activation = activation,
                                  .truncation = truncation, .k1 = k1, .k2 = k2,
                                  .instructions = instructions, .threads = threads};
    bptt_call_frame frame = {.signature = bptt_signature_of(function)};
    PyObject *result = NULL;
    for (; frame.signature->arrays[frame.count].name; frame.count++) {
        if (open_array(&frame, frame.count, arrays, &setting) < 0) goto done;
    }
    if (open_work(&frame, arrays, &setting) < 0 || check_overlap(&frame) < 0) goto done;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = frame.real == 'd' ? bptt_call_f64(function, frame.pointers, &setting)
                               : bptt_call_f32(function, frame.pointers, &setting);
    Py_END_ALLOW_THREADS
    result = finish(status, name);
done:
    release(&frame);
    return result;
}

/* Appends an item, which it takes over; -1 if there is none or it fails, and then the list is given back too. */
static int append(PyObject *list, PyObject *item) {
    const int status = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    if (status < 0) Py_DECREF(list);
    return status;
}

/* The tuple of a list, which is given back. */
static PyObject *to_tuple(PyObject *list) {
    PyObject *tuple = PyList_AsTuple(list);
    Py_DECREF(list);
    return tuple;
}

static PyObject *outputs(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    if (!PyArg_ParseTuple(args, "s:outputs", &name)) return NULL;
    const int function = find_function(name);
    if (function < 0) return NULL;
    PyObject *list = PyList_New(0);
    if (!list) return NULL;
    for (const bptt_array *array = bptt_signature_of(function)->arrays; array->name; array++) {
        if (array->role != BPTT_OUT) continue;
        if (append(list, Py_BuildValue("(ss)", array->name, array->shape)) < 0) return NULL;
    }
    return to_tuple(list);
}

static PyObject *work(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_ssize_t size[5], itemsize;
    if (!PyArg_ParseTuple(args, "s(nnnnn)n:work", &name, &size[0], &size[1], &size[2], &size[3], &size[4], &itemsize)) {
        return NULL;
    }
    const int function = find_function(name);
    if (function < 0) return NULL;
    const bptt_setting setting = {.T = (size_t)size[0], .B = (size_t)size[1], .D = (size_t)size[2],
                                  .H = (size_t)size[3], .K = (size_t)size[4]};
    const Py_ssize_t bytes = work_bytes(bptt_signature_of(function), &setting, (size_t)itemsize);
    return bytes < 0 ? NULL : PyLong_FromSsize_t(bytes);
}

static PyObject *instructions(PyObject *module, PyObject *args) {
    (void)module;
    if (!PyArg_ParseTuple(args, ":instructions")) return NULL;
    PyObject *list = PyList_New(0);
    if (!list) return NULL;
    for (int i = BPTT_PLAIN; i < BPTT_INSTRUCTIONS; i++) {
        if (!bptt_has(i)) continue;
        if (append(list, PyUnicode_FromString(INSTRUCTIONS[i])) < 0) return NULL;
    }
    return to_tuple(list);
}

static PyMethodDef METHODS[] = {
    {"call", call, METH_VARARGS, "call(function, arrays, (T, B, D, H, K), (activation, truncation, k1, k2), instructions='best', threads=1)"},
    {"outputs", outputs, METH_VARARGS, "outputs(function) -> ((name, shape), ...)"},
    {"work", work, METH_VARARGS, "work(function, (T, B, D, H, K), itemsize) -> bytes"},
    {"instructions", instructions, METH_VARARGS, "instructions() -> names, the best one last"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "implementations._bptt_c",
    .m_doc = "The C kernel of the target c; see implementations.c_kernel.",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__bptt_c(void) { return PyModuleDef_Init(&MODULE); }
